//! What to do in a cluster so that it matches its ManifestWorks, and what to report.
//!
//! - [`manifest`]: what a manifest names, in which order manifests are applied, which options are theirs
//! - [`apply`]: how one object becomes what its manifest says, for each update strategy
//! - [`owners`]: whose an object is
//! - [`plan`]: the next steps for one work, from birth to deletion
//! - [`status`], [`feedback`], [`rules`], [`health`]: what the hub is told
//! - [`eviction`]: what becomes of AppliedManifestWorks whose work is gone
//! - [`expiry`]: when a work that is done is deleted on the hub

pub mod apply;
pub mod eviction;
pub mod expiry;
pub mod feedback;
pub mod health;
pub mod manifest;
pub mod owners;
pub mod plan;
pub mod rules;
pub mod status;
