//! Every decision, no I/O: pure functions from what is observed (and `now`) to what is to be done.

pub mod registration;
pub mod publish;
pub mod work;
