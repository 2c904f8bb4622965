//! Absent fields get their defaults.
