//! Every decision, no I/O: pure functions from what is observed (and `now`) to what is to be done.

pub mod admission;
pub mod election;
pub mod placement;
pub mod registration;
pub mod publish;
pub mod replicaset;
pub mod rollout;
pub mod selector;
pub mod sets;
pub mod work;
