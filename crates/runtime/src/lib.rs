//! Be a good process and a good Kubernetes citizen.
