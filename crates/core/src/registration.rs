//! How a cluster and its hub come to know each other.
