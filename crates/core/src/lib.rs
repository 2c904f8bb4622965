//! Every decision, no I/O.

pub mod registration;
