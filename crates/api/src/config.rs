//! `config.open-cluster-management.io`: how imported clusters are configured from their hub.

pub mod v1alpha1;
