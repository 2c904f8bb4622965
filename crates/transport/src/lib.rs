//! Move CloudEvents through real brokers.
