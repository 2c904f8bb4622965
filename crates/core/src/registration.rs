//! How a cluster joins a hub, stays, and leaves.
//!
//! [`cluster`] plans what the hub does for one managed cluster, [`request`] judges certificate
//! signing requests, [`roles`] lists what an agent may touch. [`agent`] is the other side: what the
//! agent of a cluster does. [`klusterlet`] is how an agent is configured from afar.

pub mod agent;
pub mod cluster;
pub mod klusterlet;
pub mod request;
pub mod roles;
