//! `operator.open-cluster-management.io`: how agents are installed.

pub mod v1;
