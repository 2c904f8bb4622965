//! Clients against each other and against a broker.
