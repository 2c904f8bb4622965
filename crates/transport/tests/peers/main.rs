//! Transports through real brokers.

mod kafka;
