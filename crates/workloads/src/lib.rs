//! Stand in for the controllers and nodes of a real cluster.
