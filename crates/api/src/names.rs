//! Every label, annotation, finalizer, condition type and reason, with where upstream defines it.

/// The label that carries the name of a managed cluster (api, cluster/v1/types.go `ClusterNameLabelKey`).
pub const CLUSTER_NAME_LABEL: &str = "open-cluster-management.io/cluster-name";
/// The label that puts a cluster into a set (api, cluster/v1beta2/types_managedclusterset.go `ClusterSetLabel`).
pub const CLUSTER_SET_LABEL: &str = "cluster.open-cluster-management.io/clusterset";
/// The label of a claim that stays in its cluster (ocm, pkg/registration/spoke `labelCustomizedOnly`).
pub const SPOKE_ONLY_LABEL: &str = "open-cluster-management.io/spoke-only";
/// The order, "0" to "100", in which works and add-ons of a leaving cluster go (api, cluster/v1/types.go `CleanupPriorityAnnotationKey`).
pub const CLEANUP_PRIORITY_ANNOTATION: &str = "open-cluster-management.io/cleanup-priority";
/// When a cluster was accepted by policy (ocm, pkg/registration/hub/managedcluster).
pub const AUTOMATICALLY_ACCEPTED_ON_ANNOTATION: &str =
    "open-cluster-management.io/automatically-accepted-on";
/// Turns off the comparison of clocks (ocm, pkg/registration/hub/lease).
pub const SKIP_CLOCK_SYNC_CHECK_ANNOTATION: &str =
    "registration.open-cluster-management.io/skip-clock-sync-check";
/// Registries to take images from (api, cluster/v1/types.go `ClusterImageRegistriesAnnotationKey`).
pub const IMAGE_REGISTRIES_ANNOTATION: &str = "open-cluster-management.io/image-registries";
/// The prefix of annotations that an agent puts on its cluster (ocm, pkg/registration/spoke).
pub const AGENT_ANNOTATION_PREFIX: &str = "agent.open-cluster-management.io/";
/// The prefix of labels that tell of add-ons: available, unhealthy or unreachable (api, addon/v1alpha1).
pub const FEATURE_LABEL_PREFIX: &str = "feature.open-cluster-management.io/addon-";
/// The finalizer for a cluster's roles and namespace (api, cluster/v1/types.go `ManagedClusterFinalizer`).
pub const CLUSTER_FINALIZER: &str = "cluster.open-cluster-management.io/api-resource-cleanup";
/// The finalizer for a cluster's add-ons and works (ocm, pkg/registration/hub/gc).
pub const CLUSTER_RESOURCE_FINALIZER: &str = "cluster.open-cluster-management.io/resource-cleanup";
/// The lease of a cluster in its namespace on the hub (ocm, pkg/registration/hub/lease).
pub const CLUSTER_LEASE: &str = "managed-cluster-lease";

/// Taints (api, cluster/v1/types.go).
pub mod taint {
    /// The cluster says that it is not available.
    pub const UNAVAILABLE: &str = "cluster.open-cluster-management.io/unavailable";
    /// The cluster does not say anything.
    pub const UNREACHABLE: &str = "cluster.open-cluster-management.io/unreachable";
}

/// Conditions of ManagedCluster (api, cluster/v1/types.go; reasons: ocm, pkg/registration).
pub mod cluster {
    /// The hub's administrator accepted the cluster.
    pub const HUB_ACCEPTED: &str = "HubAcceptedManagedCluster";
    /// The hub's administrator denied the cluster.
    pub const HUB_DENIED: &str = "HubDeniedManagedCluster";
    /// The agent reached the hub as the accepted cluster.
    pub const JOINED: &str = "ManagedClusterJoined";
    /// The cluster's API server answers.
    pub const AVAILABLE: &str = "ManagedClusterConditionAvailable";
    /// The clocks of hub and agent agree.
    pub const CLOCK_SYNCED: &str = "ManagedClusterConditionClockSynced";
    /// The agent's certificate was renewed.
    pub const CERTIFICATE_ROTATED: &str = "ClusterCertificateRotated";
    /// The cluster is leaving.
    pub const DELETING: &str = "Deleting";

    /// HubAccepted is True.
    pub const REASON_ACCEPTED: &str = "HubClusterAdminAccepted";
    /// HubAccepted is False.
    pub const REASON_DENIED: &str = "HubClusterAdminDenied";
    /// HubAccepted is False because the roles could not be written.
    pub const REASON_ERROR: &str = "Error";
    /// Joined is True.
    pub const REASON_JOINED: &str = "ManagedClusterJoined";
    /// Available is True.
    pub const REASON_AVAILABLE: &str = "ManagedClusterAvailable";
    /// Available is False.
    pub const REASON_API_UNAVAILABLE: &str = "ManagedClusterKubeAPIServerUnavailable";
    /// Available is Unknown.
    pub const REASON_LEASE_STOPPED: &str = "ManagedClusterLeaseUpdateStopped";
    /// ClockSynced is True.
    pub const REASON_CLOCK_SYNCED: &str = "ManagedClusterClockSynced";
    /// ClockSynced is False.
    pub const REASON_CLOCK_OUT_OF_SYNC: &str = "ManagedClusterClockOutOfSync";
    /// CertificateRotated is True.
    pub const REASON_CERTIFICATE_UPDATED: &str = "ClientCertificateUpdated";
    /// CertificateRotated is False.
    pub const REASON_CERTIFICATE_FAILED: &str = "ClientCertificateUpdateFailed";
    /// Deleting waits for add-ons or works.
    pub const REASON_RESOURCE_REMAINING: &str = "ResourceRemaining";
    /// Deleting has nothing to wait for.
    pub const REASON_NO_RESOURCE: &str = "NoResource";
    /// Deleting failed.
    pub const REASON_DELETING_ERROR: &str = "DeletingError";
}

/// Conditions of ManagedClusterSet and ManagedClusterSetBinding (api, cluster/v1beta2).
pub mod cluster_set {
    /// The set has no cluster.
    pub const EMPTY: &str = "ClusterSetEmpty";
    /// Empty is True.
    pub const REASON_NO_CLUSTER: &str = "NoClusterMatched";
    /// Empty is False.
    pub const REASON_CLUSTERS_SELECTED: &str = "ClustersSelected";
    /// The binding's set exists.
    pub const BOUND: &str = "Bound";
    /// Bound is True.
    pub const REASON_BOUND: &str = "ClusterSetBound";
    /// Bound is False.
    pub const REASON_NOT_FOUND: &str = "ClusterSetNotFound";
    /// The set of clusters that name no other.
    pub const DEFAULT: &str = "default";
    /// The set of all clusters.
    pub const GLOBAL: &str = "global";
}

/// Labels, annotations, conditions and reasons of Placement and PlacementDecision (api, cluster/v1beta1; reasons: ocm,
/// pkg/placement/controllers/scheduling).
pub mod placement {
    /// The placement that a decision belongs to (`PlacementLabel`).
    pub const PLACEMENT_LABEL: &str = "cluster.open-cluster-management.io/placement";
    /// The index of a decision's group, from 0 (`DecisionGroupIndexLabel`).
    pub const GROUP_INDEX_LABEL: &str = "cluster.open-cluster-management.io/decision-group-index";
    /// The name of a decision's group; empty when it has none (`DecisionGroupNameLabel`).
    pub const GROUP_NAME_LABEL: &str = "cluster.open-cluster-management.io/decision-group-name";
    /// With the value `true` others decide for the placement (`PlacementDisableAnnotation`).
    pub const DISABLE_ANNOTATION: &str =
        "cluster.open-cluster-management.io/experimental-scheduling-disable";

    /// As many clusters are selected as were asked for (`PlacementConditionSatisfied`).
    pub const SATISFIED: &str = "PlacementSatisfied";
    /// What is written in the placement cannot be followed (`PlacementConditionMisconfigured`).
    pub const MISCONFIGURED: &str = "PlacementMisconfigured";

    /// Satisfied is True.
    pub const REASON_ALL_SCHEDULED: &str = "AllDecisionsScheduled";
    /// Satisfied is False: fewer clusters than were asked for.
    pub const REASON_NOT_ALL_SCHEDULED: &str = "NotAllDecisionsScheduled";
    /// Satisfied is False: the namespace has no binding to a set that exists.
    pub const REASON_NO_BINDINGS: &str = "NoManagedClusterSetBindings";
    /// Satisfied is False: none of the placement's sets is bound to the namespace.
    pub const REASON_NO_INTERSECTION: &str = "NoIntersection";
    /// Satisfied is False: the sets have no clusters.
    pub const REASON_SETS_EMPTY: &str = "AllManagedClusterSetsEmpty";
    /// Satisfied is False: no cluster passes.
    pub const REASON_NO_CLUSTER_MATCHED: &str = "NoManagedClusterMatched";
    /// Misconfigured is True.
    pub const REASON_MISCONFIGURED: &str = "Misconfigured";
    /// Misconfigured is False; spelt as upstream spells it.
    pub const REASON_CONFIGURED: &str = "Succeedconfigured";
}

/// Claims whose names are reserved (api, cluster/v1alpha1/types.go `ReservedClusterClaimNames`).
pub mod claim {
    /// A unique identifier of the cluster.
    pub const ID: &str = "id.k8s.io";
    /// The version of Kubernetes.
    pub const KUBE_VERSION: &str = "kubeversion.open-cluster-management.io";
    /// Where the cluster runs.
    pub const PLATFORM: &str = "platform.open-cluster-management.io";
    /// Which distribution it is.
    pub const PRODUCT: &str = "product.open-cluster-management.io";
    /// In the order in which they are reported.
    pub const RESERVED: [&str; 4] = [ID, KUBE_VERSION, PLATFORM, PRODUCT];
}

/// Names around ManifestWork and AppliedManifestWork (api, work/v1/types.go; reasons: ocm, pkg/work/spoke).
pub mod work {
    /// On a work until its AppliedManifestWork is gone (`ManifestWorkFinalizer`).
    pub const FINALIZER: &str = "cluster.open-cluster-management.io/manifest-work-cleanup";
    /// On an AppliedManifestWork until its objects are gone (`AppliedManifestWorkFinalizer`).
    pub const APPLIED_FINALIZER: &str =
        "cluster.open-cluster-management.io/applied-manifest-work-cleanup";
    /// The hash of configurations that a work was made from, and of manifests applied with ignored fields
    /// (`ManifestConfigSpecHashAnnotationKey`).
    pub const CONFIG_SPEC_HASH_ANNOTATION: &str = "open-cluster-management.io/config-spec-hash";
    /// The hash of a manifest, on the object (`ObjectSpecHash`).
    pub const OBJECT_HASH_ANNOTATION: &str = "open-cluster-management.io/object-hash";
    /// The field manager of writes (ocm, pkg/work/spoke/apply `DefaultFieldManager`).
    pub const FIELD_MANAGER: &str = "work-agent";

    /// The manifests were applied (`WorkApplied`, `ManifestApplied`).
    pub const APPLIED: &str = "Applied";
    /// The objects exist (`WorkAvailable`, `ManifestAvailable`).
    pub const AVAILABLE: &str = "Available";
    /// Something is under way (`WorkProgressing`).
    pub const PROGRESSING: &str = "Progressing";
    /// Something is not as it should be (`WorkDegraded`).
    pub const DEGRADED: &str = "Degraded";
    /// The work is done and is no longer updated (`WorkComplete`).
    pub const COMPLETE: &str = "Complete";
    /// The work is being deleted (`WorkDeleting`).
    pub const DELETING: &str = "Deleting";
    /// What was applied does what it shall: Drover's own condition, which OCM passes on and looks at nowhere.
    pub const HEALTHY: &str = "Healthy";
    /// The agent reported over events; the message is the sequence id of its newest report. Drover's own condition, written by its hub.
    pub const REPORTED: &str = "Reported";
    /// The feedback values of a manifest are up to date (ocm, pkg/work/spoke/controllers/statuscontroller).
    pub const STATUS_FEEDBACK_SYNCED: &str = "StatusFeedbackSynced";

    /// Work Applied is True.
    pub const REASON_WORK_APPLIED: &str = "AppliedManifestWorkComplete";
    /// Work Applied is False.
    pub const REASON_WORK_APPLY_FAILED: &str = "AppliedManifestWorkFailed";
    /// Manifest Applied is True.
    pub const REASON_MANIFEST_APPLIED: &str = "AppliedManifestComplete";
    /// Manifest Applied is False.
    pub const REASON_MANIFEST_APPLY_FAILED: &str = "AppliedManifestFailed";
    /// Manifest Applied is False because a path of an ignored field is wrong.
    pub const REASON_IGNORE_FIELD_ERROR: &str = "AppliedManifestSSAIgnoreFieldError";
    /// Manifest Available is True.
    pub const REASON_RESOURCE_AVAILABLE: &str = "ResourceAvailable";
    /// Manifest Available is False.
    pub const REASON_RESOURCE_NOT_AVAILABLE: &str = "ResourceNotAvailable";
    /// Manifest Available is Unknown: the object could not be read.
    pub const REASON_FETCHING_FAILED: &str = "FetchingResourceFailed";
    /// Manifest Available is Unknown: it is not known which object it is.
    pub const REASON_INCOMPLETE_META: &str = "IncompleteResourceMeta";
    /// Work Available is True.
    pub const REASON_RESOURCES_AVAILABLE: &str = "ResourcesAvailable";
    /// Work Available is False.
    pub const REASON_RESOURCES_NOT_AVAILABLE: &str = "ResourcesNotAvailable";
    /// Work Available is Unknown.
    pub const REASON_RESOURCES_UNKNOWN: &str = "ResourcesStatusUnknown";
    /// StatusFeedbackSynced is True.
    pub const REASON_FEEDBACK_SYNCED: &str = "StatusFeedbackSynced";
    /// StatusFeedbackSynced is False.
    pub const REASON_FEEDBACK_FAILED: &str = "StatusFeedbackSyncFailed";
    /// StatusFeedbackSynced is True because nothing is asked for.
    pub const REASON_NO_FEEDBACK: &str = "NoStatusFeedbackSynced";
    /// Manifest Healthy is True; otherwise its reason is that of the object.
    pub const REASON_HEALTHY: &str = "ResourceHealthy";
    /// Work Healthy is True.
    pub const REASON_ALL_HEALTHY: &str = "ResourcesHealthy";
    /// Work Healthy is False: the message names the first object that is not, and why.
    pub const REASON_UNHEALTHY: &str = "ResourcesUnhealthy";
    /// Work Healthy is Unknown: the message names the first object that is not there yet.
    pub const REASON_HEALTH_WAITS: &str = "ResourcesProgressing";
    /// Reported is True.
    pub const REASON_REPORTED: &str = "SequenceID";
    /// Deleting is True.
    pub const REASON_DELETING: &str = "WorkDeleting";
    /// Complete is True on a work (`WorkManifestsComplete`).
    pub const REASON_MANIFESTS_COMPLETE: &str = "ManifestsComplete";
    /// A condition of a work that was put together from its manifests' rules.
    pub const REASON_RULES_AGGREGATED: &str = "ConditionRulesAggregated";
    /// A rule gave a verdict (`ConditionRuleEvaluated`).
    pub const REASON_RULE_EVALUATED: &str = "ConditionRuleEvaluated";
    /// A rule cannot be evaluated (`ConditionRuleInvalid`).
    pub const REASON_RULE_INVALID: &str = "ConditionRuleInvalid";
    /// A rule's expression is wrong (`ConditionRuleExpressionError`).
    pub const REASON_RULE_EXPRESSION_ERROR: &str = "ConditionRuleExpressionError";
    /// A rule failed for another cause (`ConditionRuleInternalError`).
    pub const REASON_RULE_INTERNAL_ERROR: &str = "ConditionRuleInternalError";
    /// Progressing: objects are being applied (`WorkProgressingReasonApplying`).
    pub const REASON_APPLYING: &str = "Applying";
    /// Progressing: all are applied and available (`WorkProgressingReasonCompleted`).
    pub const REASON_COMPLETED: &str = "Completed";
    /// Progressing: applying failed (`WorkProgressingReasonFailed`).
    pub const REASON_FAILED: &str = "Failed";
}

/// Conditions of FedoraMessage (the proposal of a Fedora Message Publisher Operator names the first, and `Sent`).
pub mod fedora {
    /// The message was sent.
    pub const SENT: &str = "FedoraMessageSent";
    /// The spec is no longer what was sent.
    pub const SPEC_DRIFT: &str = "SpecDrift";

    /// Sent is True.
    pub const REASON_SENT: &str = "Sent";
    /// Its message.
    pub const MESSAGE_SENT: &str = "Message was sent successfully";
    /// Sent is Unknown: it is being sent.
    pub const REASON_PENDING: &str = "Pending";
    /// Sent is Unknown: nothing is done while `spec.suspend` is true.
    pub const REASON_SUSPENDED: &str = "Suspended";
    /// Sent is False for good: the message breaks a rule.
    pub const REASON_INVALID: &str = "InvalidMessage";
    /// Sent is False: the operator is not configured for this environment.
    pub const REASON_UNSUPPORTED_ENVIRONMENT: &str = "UnsupportedEnvironment";
    /// Sent is False: there is no such secret.
    pub const REASON_SECRET_NOT_FOUND: &str = "SecretNotFound";
    /// Sent is False: the secret lacks a key.
    pub const REASON_SECRET_KEY_MISSING: &str = "SecretKeyMissing";
    /// Sent is False: what is in the secret cannot be used.
    pub const REASON_SECRET_INVALID: &str = "SecretInvalid";
    /// Sent is False: the secret's owner does not allow it, or there is no such secret.
    pub const REASON_SECRET_NOT_PERMITTED: &str = "SecretNotPermitted";
    /// Sent is False: the broker cannot be reached.
    pub const REASON_CONNECTION_FAILED: &str = "ConnectionFailed";
    /// Sent is False: broker and secret do not agree on TLS.
    pub const REASON_TLS_FAILED: &str = "TLSVerificationFailed";
    /// Sent is False: the broker does not know the certificate's user.
    pub const REASON_LOGIN_REFUSED: &str = "AuthenticationRefused";
    /// Sent is False for good: the user may not send to this topic.
    pub const REASON_FORBIDDEN: &str = "PublishForbidden";
    /// Sent is False for good: the exchange is not there.
    pub const REASON_NO_EXCHANGE: &str = "ExchangeNotFound";
    /// Sent is False: the broker took it, and gave it back.
    pub const REASON_REJECTED: &str = "PublishRejected";
    /// Sent is Unknown: it was written, and never confirmed.
    pub const REASON_UNCERTAIN: &str = "DeliveryUncertain";
    /// Sent is False for good: the time is over.
    pub const REASON_DEADLINE: &str = "DeadlineExceeded";
    /// Sent is False for good: it was tried often enough.
    pub const REASON_EXHAUSTED: &str = "RetriesExhausted";
    /// Sent is False: the pod that should send it did not run.
    pub const REASON_POD_FAILED: &str = "SenderPodFailed";
    /// Sent is False for good: the resource is a copy of one whose message was sent.
    pub const REASON_NOT_SENT_AGAIN: &str = "NotSentAgain";
    /// SpecDrift is True.
    pub const REASON_CHANGED_AFTER_SENT: &str = "ChangedAfterSent";

    /// Label of what the publisher makes, and its value.
    pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
    /// See [`MANAGED_BY_LABEL`].
    pub const MANAGED_BY: &str = "drover-publisher";
    /// Label of what the publisher makes: the uid of the message.
    pub const MESSAGE_UID_LABEL: &str = "apps.fedoraproject.org/message-uid";

    /// Annotation of a secret: the namespaces, by comma, whose messages may be sent with it; `*` is all.
    pub const ALLOWED_NAMESPACES_ANNOTATION: &str = "apps.fedoraproject.org/allowed-namespaces";
    /// Annotation of a secret: the topics, by comma, that may be sent with it: each is one, or with `.` or `*` at the end all below.
    pub const ALLOWED_TOPICS_ANNOTATION: &str = "apps.fedoraproject.org/allowed-topics";
    /// Annotation of a message that was sent: its id. A copy of the resource is not sent again.
    pub const SENT_ID_ANNOTATION: &str = "apps.fedoraproject.org/sent-id";
}

/// Names around ManifestWorkReplicaSet (api, work/v1alpha1/types_manifestworkreplicaset.go).
pub mod replica_set {
    /// On a work: the set that it comes from, as `namespace.name` (`ManifestWorkReplicaSetControllerNameLabelKey`).
    pub const SET_LABEL: &str = "work.open-cluster-management.io/manifestworkreplicaset";
    /// On a work: the placement that chose the cluster (`ManifestWorkReplicaSetPlacementNameLabelKey`).
    pub const PLACEMENT_LABEL: &str = "work.open-cluster-management.io/placementname";
    /// On a set until its works are deleted (`ManifestWorkReplicaSetFinalizer`).
    pub const FINALIZER: &str = "work.open-cluster-management.io/manifest-work-cleanup";

    /// The placements are there and chose clusters (`ManifestWorkReplicaSetConditionPlacementVerified`).
    pub const PLACEMENT_VERIFIED: &str = "PlacementVerified";
    /// The work as it is now succeeded in every chosen cluster (`ManifestWorkReplicaSetConditionPlacementRolledOut`).
    pub const PLACEMENT_ROLLED_OUT: &str = "PlacementRolledOut";
    /// Every work is available and none is under way or degraded (`ManifestWorkReplicaSetConditionManifestworkApplied`).
    pub const WORKS_APPLIED: &str = "ManifestworkApplied";

    /// PlacementVerified or ManifestworkApplied is True.
    pub const REASON_AS_EXPECTED: &str = "AsExpected";
    /// PlacementVerified or ManifestworkApplied is False.
    pub const REASON_NOT_AS_EXPECTED: &str = "NotAsExpected";
    /// PlacementVerified is False: a placement does not exist.
    pub const REASON_PLACEMENT_NOT_FOUND: &str = "PlacementDecisionNotFound";
    /// PlacementVerified and ManifestworkApplied are False: no cluster was chosen.
    pub const REASON_PLACEMENT_EMPTY: &str = "PlacementDecisionEmpty";
    /// ManifestworkApplied is False: works are under way.
    pub const REASON_PROCESSING: &str = "Processing";
    /// PlacementRolledOut is False.
    pub const REASON_PROGRESSING: &str = "Progressing";
    /// PlacementRolledOut is True.
    pub const REASON_COMPLETE: &str = "Complete";
    /// ManifestworkApplied is False: the names of namespace and set, or the name of a placement, do not fit into a label.
    pub const REASON_INVALID_NAME: &str = "InvalidManifestWorkName";
}
