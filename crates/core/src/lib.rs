//! Every decision, no I/O: pure functions from what is observed (and `now`) to what is to be done.

pub mod admission;
pub mod registration;
pub mod work;
