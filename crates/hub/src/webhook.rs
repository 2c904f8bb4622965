//! The rules of [`drover_core::admission`] as a webhook server for API servers that are not ours, and what
//! such an API server must know of it: certificates and configurations.
//!
//! [`service`] answers, on whatever socket; [`Keeper`] keeps the certificate of that socket and tells the API
//! server to trust and ask it. Every replica of a hub does both: they agree through the API alone.

mod keeper;
mod review;
mod state;

pub use drover_core::admission::certificates::Lives;
pub use drover_core::admission::webhooks::Target;
pub use keeper::{Keeper, PERIOD, Pair, Pki, Place};
pub use review::service;
