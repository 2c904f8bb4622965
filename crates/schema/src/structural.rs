//! Structural schemas of custom resource definitions.
