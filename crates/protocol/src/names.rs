//! Names that peers agree on: extensions, labels, annotations and finalizers of the event protocol.

/// Extension: the cluster an event is for, empty for a broadcast.
pub const EXT_CLUSTER_NAME: &str = "clustername";
/// Extension: the source that owns the resource of a status event.
pub const EXT_ORIGINAL_SOURCE: &str = "originalsource";
/// Extension: the uid of the resource.
pub const EXT_RESOURCE_ID: &str = "resourceid";
/// Extension: generation (bundles, integer) or resourceVersion (other data types, string).
pub const EXT_RESOURCE_VERSION: &str = "resourceversion";
/// Extension: snowflake id of a status.
pub const EXT_SEQUENCE_ID: &str = "sequenceid";
/// Extension: its presence selects the deletion path.
pub const EXT_DELETION_TIMESTAMP: &str = "deletiontimestamp";
/// Extension: SHA-256 of the canonical status.
pub const EXT_STATUS_HASH: &str = "statushash";
/// Extension: JSON of the object's metadata.
pub const EXT_METADATA: &str = "metadata";
/// Extension: JSON map of log tracing annotations.
pub const EXT_LOG_TRACING: &str = "logtracing";
/// Extension: this resync request continues an earlier one, so what that one led to need not be done again. Peers that
/// send all in one request do not know it.
pub const EXT_RESYNC_CONTINUES: &str = "resynccontinues";
/// Extension: W3C `traceparent` (CloudEvents extension for distributed tracing).
pub const EXT_TRACE_PARENT: &str = "traceparent";
/// Extension: W3C `tracestate`.
pub const EXT_TRACE_STATE: &str = "tracestate";

/// Label on the agent's copy: the source that sent the work.
pub const LABEL_ORIGINAL_SOURCE: &str = "cloudevents.open-cluster-management.io/originalsource";
/// Annotation on the agent's copy: the same, where v0.13 keeps it.
pub const ANNOTATION_ORIGINAL_SOURCE: &str = LABEL_ORIGINAL_SOURCE;
/// Annotation on the agent's copy: the data type it came as.
pub const ANNOTATION_DATA_TYPE: &str = "cloudevents.open-cluster-management.io/datatype";
/// Annotation on the source's copy: the version its owner gives to the spec.
pub const ANNOTATION_RESOURCE_VERSION: &str =
    "cloudevents.open-cluster-management.io/resourceversion";
/// Annotation on the source's copy: sequence id of the last accepted status.
pub const ANNOTATION_SEQUENCE_ID: &str = "cloudevents.open-cluster-management.io/sequenceid";
/// Prefix of annotations that travel as log tracing.
pub const LOG_TRACING_PREFIX: &str = "logging.open-cluster-management.io/";
/// Finalizer that keeps a work until its manifests are gone from the cluster.
pub const WORK_FINALIZER: &str = "cluster.open-cluster-management.io/manifest-work-cleanup";
/// Label on a certificate signing request: the cluster it is for.
pub const LABEL_CLUSTER_NAME: &str = "open-cluster-management.io/cluster-name";

/// Type of the events that keep a stream alive; not of the ordinary type grammar.
pub const HEARTBEAT_TYPE: &str = "io.open-cluster-management.cloudevents.heartbeat";
/// Source name that the broker of the Go implementation writes into the deletions of a resync.
pub const BROKER_SOURCE: &str = "source";
/// Source name of a hub that serves its own Kubernetes API.
pub const HUB_SOURCE: &str = "kube";

/// Work condition that says that everything of a work is gone from the cluster: the last word of an agent.
pub const CONDITION_DELETED: &str = "Deleted";
/// Reason of [`CONDITION_DELETED`].
pub const REASON_MANIFESTS_DELETED: &str = "ManifestsDeleted";

/// Largest total size of the manifests of a work, in bytes, as counted by [`crate::bundle::manifests_size`].
pub const MAX_MANIFESTS_BYTES: usize = 512_000;
