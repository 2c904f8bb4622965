//! The resources that a server serves.
