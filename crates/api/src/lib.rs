//! What the Kubernetes objects of a fleet look like.
