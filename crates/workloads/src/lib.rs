//! Stands in, in an embedded cluster, for the controllers and nodes of a real one.
//!
//! A Deployment, StatefulSet, DaemonSet, Job or Pod that is applied (and what scales and guards them) gets the objects and the status
//! that a healthy cluster would give it, within milliseconds and without running anything, but for the pods of [`Local`]. An
//! annotation makes it fail (see [`fault`]). Each kind has a pure planner (`plan`) over what is
//! there; [`run`] does what they say.
//!
//! Pods have names that follow from their owner and their place, so a plan that is carried out
//! twice makes nothing twice.

pub mod fault;
mod autoscaler;
mod budget;
mod cluster;
mod daemonset;
mod deployment;
mod job;
mod local;
mod pod;
mod replicaset;
mod statefulset;
mod template;

pub use cluster::{WorkloadsError, make_node, run, run_with};
pub use local::Local;

#[cfg(test)]
mod tests;
