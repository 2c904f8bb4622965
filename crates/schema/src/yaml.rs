//! YAML request bodies.
