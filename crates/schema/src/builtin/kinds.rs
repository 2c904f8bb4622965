//! What the built-in kinds are called.

use super::Kind;

const fn row(
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
    definition: &'static str,
) -> Kind {
    Kind {
        group,
        version,
        kind,
        plural,
        singular,
        short_names: &[],
        categories: &[],
        namespaced: true,
        stored: true,
        status: false,
        scale: false,
        subresources: &[],
        definition,
        generation: false,
    }
}

impl Kind {
    const fn short(mut self, names: &'static [&'static str]) -> Self {
        self.short_names = names;
        self
    }

    const fn category(mut self, names: &'static [&'static str]) -> Self {
        self.categories = names;
        self
    }

    const fn cluster(mut self) -> Self {
        self.namespaced = false;
        self
    }

    const fn review(mut self) -> Self {
        self.stored = false;
        self
    }

    const fn with_status(mut self) -> Self {
        self.status = true;
        self
    }

    const fn with_scale(mut self) -> Self {
        self.scale = true;
        self
    }

    const fn with(mut self, subresources: &'static [&'static str]) -> Self {
        self.subresources = subresources;
        self
    }

    const fn counted(mut self) -> Self {
        self.generation = true;
        self
    }
}

/// In the order of a real server's discovery.
pub(super) static KINDS: &[Kind] = &[
    row("", "v1", "Binding", "bindings", "binding", "io.k8s.api.core.v1.Binding").review(),
    row("", "v1", "ConfigMap", "configmaps", "configmap", "io.k8s.api.core.v1.ConfigMap").short(&["cm"]),
    row("", "v1", "Endpoints", "endpoints", "endpoints", "io.k8s.api.core.v1.Endpoints").short(&["ep"]),
    row("", "v1", "Event", "events", "event", "io.k8s.api.core.v1.Event").short(&["ev"]),
    row("", "v1", "LimitRange", "limitranges", "limitrange", "io.k8s.api.core.v1.LimitRange").short(&["limits"]),
    row("", "v1", "Namespace", "namespaces", "namespace", "io.k8s.api.core.v1.Namespace").short(&["ns"]).cluster().with_status().with(&["finalize"]),
    row("", "v1", "Node", "nodes", "node", "io.k8s.api.core.v1.Node").short(&["no"]).cluster().with_status(),
    row("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", "persistentvolumeclaim", "io.k8s.api.core.v1.PersistentVolumeClaim").short(&["pvc"]).with_status(),
    row("", "v1", "PersistentVolume", "persistentvolumes", "persistentvolume", "io.k8s.api.core.v1.PersistentVolume").short(&["pv"]).cluster().with_status(),
    row("", "v1", "Pod", "pods", "pod", "io.k8s.api.core.v1.Pod").short(&["po"]).category(&["all"]).with_status().with(&["binding", "ephemeralcontainers", "eviction", "resize"]).counted(),
    row("", "v1", "PodTemplate", "podtemplates", "podtemplate", "io.k8s.api.core.v1.PodTemplate").counted(),
    row("", "v1", "ReplicationController", "replicationcontrollers", "replicationcontroller", "io.k8s.api.core.v1.ReplicationController").short(&["rc"]).category(&["all"]).with_status().with_scale().counted(),
    row("", "v1", "ResourceQuota", "resourcequotas", "resourcequota", "io.k8s.api.core.v1.ResourceQuota").short(&["quota"]).with_status(),
    row("", "v1", "Secret", "secrets", "secret", "io.k8s.api.core.v1.Secret"),
    row("", "v1", "ServiceAccount", "serviceaccounts", "serviceaccount", "io.k8s.api.core.v1.ServiceAccount").short(&["sa"]).with(&["token"]),
    row("", "v1", "Service", "services", "service", "io.k8s.api.core.v1.Service").short(&["svc"]).category(&["all"]).with_status(),
    row("apiregistration.k8s.io", "v1", "APIService", "apiservices", "apiservice", "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIService").category(&["api-extensions"]).cluster().with_status(),
    row("apps", "v1", "ControllerRevision", "controllerrevisions", "controllerrevision", "io.k8s.api.apps.v1.ControllerRevision"),
    row("apps", "v1", "DaemonSet", "daemonsets", "daemonset", "io.k8s.api.apps.v1.DaemonSet").short(&["ds"]).category(&["all"]).with_status().counted(),
    row("apps", "v1", "Deployment", "deployments", "deployment", "io.k8s.api.apps.v1.Deployment").short(&["deploy"]).category(&["all"]).with_status().with_scale().counted(),
    row("apps", "v1", "ReplicaSet", "replicasets", "replicaset", "io.k8s.api.apps.v1.ReplicaSet").short(&["rs"]).category(&["all"]).with_status().with_scale().counted(),
    row("apps", "v1", "StatefulSet", "statefulsets", "statefulset", "io.k8s.api.apps.v1.StatefulSet").short(&["sts"]).category(&["all"]).with_status().with_scale().counted(),
    row("events.k8s.io", "v1", "Event", "events", "event", "io.k8s.api.events.v1.Event").short(&["ev"]),
    row("authentication.k8s.io", "v1", "SelfSubjectReview", "selfsubjectreviews", "selfsubjectreview", "io.k8s.api.authentication.v1.SelfSubjectReview").cluster().review(),
    row("authentication.k8s.io", "v1", "TokenReview", "tokenreviews", "tokenreview", "io.k8s.api.authentication.v1.TokenReview").cluster().review(),
    row("authorization.k8s.io", "v1", "LocalSubjectAccessReview", "localsubjectaccessreviews", "localsubjectaccessreview", "io.k8s.api.authorization.v1.LocalSubjectAccessReview").review(),
    row("authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", "selfsubjectaccessreview", "io.k8s.api.authorization.v1.SelfSubjectAccessReview").cluster().review(),
    row("authorization.k8s.io", "v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews", "selfsubjectrulesreview", "io.k8s.api.authorization.v1.SelfSubjectRulesReview").cluster().review(),
    row("authorization.k8s.io", "v1", "SubjectAccessReview", "subjectaccessreviews", "subjectaccessreview", "io.k8s.api.authorization.v1.SubjectAccessReview").cluster().review(),
    row("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", "horizontalpodautoscaler", "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler").short(&["hpa"]).category(&["all"]).with_status(),
    row("autoscaling", "v1", "HorizontalPodAutoscaler", "horizontalpodautoscalers", "horizontalpodautoscaler", "io.k8s.api.autoscaling.v1.HorizontalPodAutoscaler").short(&["hpa"]).category(&["all"]).with_status(),
    row("batch", "v1", "CronJob", "cronjobs", "cronjob", "io.k8s.api.batch.v1.CronJob").short(&["cj"]).category(&["all"]).with_status().counted(),
    row("batch", "v1", "Job", "jobs", "job", "io.k8s.api.batch.v1.Job").category(&["all"]).with_status().counted(),
    row("certificates.k8s.io", "v1", "CertificateSigningRequest", "certificatesigningrequests", "certificatesigningrequest", "io.k8s.api.certificates.v1.CertificateSigningRequest").short(&["csr"]).cluster().with_status().with(&["approval"]),
    row("networking.k8s.io", "v1", "IngressClass", "ingressclasses", "ingressclass", "io.k8s.api.networking.v1.IngressClass").cluster().counted(),
    row("networking.k8s.io", "v1", "Ingress", "ingresses", "ingress", "io.k8s.api.networking.v1.Ingress").short(&["ing"]).with_status().counted(),
    row("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", "networkpolicy", "io.k8s.api.networking.v1.NetworkPolicy").short(&["netpol"]).counted(),
    row("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", "poddisruptionbudget", "io.k8s.api.policy.v1.PodDisruptionBudget").short(&["pdb"]).with_status().counted(),
    row("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", "clusterrolebinding", "io.k8s.api.rbac.v1.ClusterRoleBinding").cluster(),
    row("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", "clusterrole", "io.k8s.api.rbac.v1.ClusterRole").cluster(),
    row("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings", "rolebinding", "io.k8s.api.rbac.v1.RoleBinding"),
    row("rbac.authorization.k8s.io", "v1", "Role", "roles", "role", "io.k8s.api.rbac.v1.Role"),
    row("storage.k8s.io", "v1", "CSIDriver", "csidrivers", "csidriver", "io.k8s.api.storage.v1.CSIDriver").cluster(),
    row("storage.k8s.io", "v1", "CSINode", "csinodes", "csinode", "io.k8s.api.storage.v1.CSINode").cluster(),
    row("storage.k8s.io", "v1", "CSIStorageCapacity", "csistoragecapacities", "csistoragecapacity", "io.k8s.api.storage.v1.CSIStorageCapacity"),
    row("storage.k8s.io", "v1", "StorageClass", "storageclasses", "storageclass", "io.k8s.api.storage.v1.StorageClass").short(&["sc"]).cluster(),
    row("storage.k8s.io", "v1", "VolumeAttachment", "volumeattachments", "volumeattachment", "io.k8s.api.storage.v1.VolumeAttachment").cluster().with_status(),
    row("storage.k8s.io", "v1", "VolumeAttributesClass", "volumeattributesclasses", "volumeattributesclass", "io.k8s.api.storage.v1.VolumeAttributesClass").short(&["vac"]).cluster(),
    row("admissionregistration.k8s.io", "v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", "mutatingwebhookconfiguration", "io.k8s.api.admissionregistration.v1.MutatingWebhookConfiguration").category(&["api-extensions"]).cluster().counted(),
    row("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies", "validatingadmissionpolicy", "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicy").category(&["api-extensions"]).cluster().with_status().counted(),
    row("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", "validatingadmissionpolicybinding", "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyBinding").category(&["api-extensions"]).cluster().counted(),
    row("admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations", "validatingwebhookconfiguration", "io.k8s.api.admissionregistration.v1.ValidatingWebhookConfiguration").category(&["api-extensions"]).cluster().counted(),
    row("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", "customresourcedefinition", "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition").short(&["crd", "crds"]).category(&["api-extensions"]).cluster().with_status().counted(),
    row("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", "priorityclass", "io.k8s.api.scheduling.v1.PriorityClass").short(&["pc"]).cluster().counted(),
    row("coordination.k8s.io", "v1", "Lease", "leases", "lease", "io.k8s.api.coordination.v1.Lease"),
    row("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses", "runtimeclass", "io.k8s.api.node.v1.RuntimeClass").cluster(),
    row("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", "endpointslice", "io.k8s.api.discovery.v1.EndpointSlice").counted(),
];
