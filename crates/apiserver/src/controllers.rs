//! What a control plane does by itself: garbage collection, namespaces, custom resource definitions.
