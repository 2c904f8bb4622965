//! Connections in, with or without TLS.
