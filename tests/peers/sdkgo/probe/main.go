// Command sdkgo-probe is a work agent made of the public clients of open-cluster-management.io/sdk-go alone. It joins
// nothing and applies nothing: it takes every work of one cluster from a broker, claims it with the finalizer, reports it
// as applied and available, and lets it go when it is deleted.
//
//	sdkgo-probe -config FILE -cluster NAME [-agent ID]
//
// FILE is the gRPC configuration of sdk-go (url, caFile, token, …). Each step is one line on stdout: `claimed NAME`,
// `reported NAME GENERATION MANIFESTS`, `released NAME`.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	workclient "open-cluster-management.io/api/client/work/clientset/versioned/typed/work/v1"
	workinformers "open-cluster-management.io/api/client/work/informers/externalversions"
	workv1 "open-cluster-management.io/api/work/v1"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/clients/options"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/clients/work"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/clients/work/agent/codec"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/clients/work/store"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/generic/options/builder"
)

func main() {
	config := flag.String("config", "", "gRPC configuration of sdk-go")
	cluster := flag.String("cluster", "cluster1", "the managed cluster")
	agent := flag.String("agent", "sdkgo-probe", "agent id")
	klog.InitFlags(nil)
	flag.Parse()
	if err := serve(context.Background(), *config, *cluster, *agent); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(ctx context.Context, config, cluster, agent string) error {
	_, loaded, err := builder.NewConfigLoader("grpc", config).LoadConfig()
	if err != nil {
		return fmt.Errorf("reading %s: %w", config, err)
	}
	holder, err := work.NewAgentClientHolder(ctx, options.NewGenericClientOptions(loaded, codec.NewManifestBundleCodec(), agent).
		WithClientWatcherStore(store.NewAgentInformerWatcherStore()).WithClusterName(cluster))
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	informer := workinformers.NewSharedInformerFactoryWithOptions(holder.WorkInterface(), time.Hour,
		workinformers.WithNamespace(cluster)).Work().V1().ManifestWorks().Informer()
	go informer.Run(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return ctx.Err()
	}
	fmt.Println("ready")
	works := holder.ManifestWorks(cluster)
	// Looking again is simpler than following events, and is how a level-triggered agent may behave.
	for ; ; time.Sleep(50 * time.Millisecond) {
		list, err := works.List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for i := range list.Items {
			if step, err := advance(ctx, works, &list.Items[i]); err != nil {
				fmt.Fprintln(os.Stderr, "will try again:", err)
			} else if step != "" {
				fmt.Println(step)
			}
		}
	}
}

// advance does the one next thing that a work needs, and says what it was.
func advance(ctx context.Context, works workclient.ManifestWorkInterface, w *workv1.ManifestWork) (string, error) {
	claimed := len(w.Finalizers) > 0
	if !w.DeletionTimestamp.IsZero() {
		if !claimed {
			return "", nil
		}
		return "released " + w.Name, patch(ctx, works, w, "", map[string]any{}, []string{})
	}
	if !claimed {
		return "claimed " + w.Name, patch(ctx, works, w, "", map[string]any{}, []string{workv1.ManifestWorkFinalizer})
	}
	if seen := meta.FindStatusCondition(w.Status.Conditions, workv1.WorkApplied); seen != nil && seen.ObservedGeneration == w.Generation {
		return "", nil
	}
	conditions := append([]metav1.Condition{}, w.Status.Conditions...)
	for _, kind := range []string{workv1.WorkApplied, workv1.WorkAvailable} {
		meta.SetStatusCondition(&conditions, metav1.Condition{Type: kind, Status: metav1.ConditionTrue,
			Reason: "Probed", Message: "seen by the probe", ObservedGeneration: w.Generation})
	}
	step := fmt.Sprintf("reported %s %d %d", w.Name, w.Generation, len(w.Spec.Workload.Manifests))
	return step, patch(ctx, works, w, "status", map[string]any{"status": map[string]any{"conditions": conditions}}, nil)
}

func patch(ctx context.Context, works workclient.ManifestWorkInterface, w *workv1.ManifestWork, subresource string, body map[string]any, finalizers []string) error {
	metadata := map[string]any{"uid": w.UID, "resourceVersion": w.ResourceVersion}
	if finalizers != nil {
		metadata["finalizers"] = finalizers
	}
	body["metadata"] = metadata
	bytes, err := json.Marshal(body)
	if err != nil {
		return err
	}
	var subresources []string
	if subresource != "" {
		subresources = []string{subresource}
	}
	_, err = works.Patch(ctx, w.Name, types.MergePatchType, bytes, metav1.PatchOptions{}, subresources...)
	return err
}
