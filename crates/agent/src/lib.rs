//! Make one cluster match its works, and report.

pub mod registration;
pub mod work;
