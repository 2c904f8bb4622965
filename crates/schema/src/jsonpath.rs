//! JSONPath as Kubernetes writes it.
