// Command ocm-webhook serves the admission webhooks of Open Cluster Management: those of its registration and of its work
// webhook servers in one process, on one port of loopback. Their own programs also listen on a port that cannot be chosen.
package main

import (
	"flag"
	"fmt"
	"os"

	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"k8s.io/apimachinery/pkg/runtime"

	clusterv1 "open-cluster-management.io/api/cluster/v1"
	"open-cluster-management.io/api/feature"
	workv1 "open-cluster-management.io/api/work/v1"
	workv1alpha1 "open-cluster-management.io/api/work/v1alpha1"
	"open-cluster-management.io/ocm/pkg/common/options"
	"open-cluster-management.io/ocm/pkg/features"
	clusters "open-cluster-management.io/ocm/pkg/registration/webhook/v1"
	bindings "open-cluster-management.io/ocm/pkg/registration/webhook/v1beta2"
	works "open-cluster-management.io/ocm/pkg/work/webhook/v1"
	sets "open-cluster-management.io/ocm/pkg/work/webhook/v1alpha1"
)

func main() {
	// The common flags are taken by the libraries.
	flags := flag.NewFlagSet(os.Args[0], flag.ExitOnError)
	kubeconfig := flags.String("kubeconfig", "", "kubeconfig of the hub")
	port := flags.Int("port", 0, "port of loopback")
	certificates := flags.String("certdir", "", "folder with tls.crt and tls.key")
	err := flags.Parse(os.Args[1:])
	if err == nil {
		err = run(*kubeconfig, *port, *certificates)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(kubeconfig string, port int, certificates string) error {
	ctrl.SetLogger(klog.Background())
	gates := features.HubMutableFeatureGate
	for _, add := range []error{
		gates.Add(feature.DefaultHubRegistrationFeatureGates),
		gates.Add(feature.DefaultHubWorkFeatureGates),
		gates.SetFromMap(map[string]bool{string(feature.ManifestWorkReplicaSet): true}),
	} {
		if add != nil {
			return add
		}
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	config.QPS, config.Burst = 1000, 1000
	scheme := runtime.NewScheme()
	for _, install := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, clusterv1.Install, bindings.Install, workv1.Install, workv1alpha1.Install,
	} {
		if err := install(scheme); err != nil {
			return err
		}
	}
	manager, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:                 scheme,
		HealthProbeBindAddress: "0",
		Metrics:                server.Options{BindAddress: "0"},
		WebhookServer: webhook.NewServer(webhook.Options{
			Host: "127.0.0.1", Port: port, CertDir: certificates,
		}),
	})
	if err != nil {
		return err
	}
	for _, hook := range []options.WebhookInitializer{
		&clusters.ManagedClusterWebhook{},
		&bindings.ManagedClusterSetBindingWebhook{},
		&works.ManifestWorkWebhook{},
		&sets.ManifestWorkReplicaSetWebhook{},
	} {
		if err := hook.Init(manager); err != nil {
			return err
		}
	}
	return manager.Start(ctrl.SetupSignalHandler())
}
