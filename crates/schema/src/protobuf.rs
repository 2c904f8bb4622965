//! Built-in kinds from the Kubernetes protobuf encoding.
