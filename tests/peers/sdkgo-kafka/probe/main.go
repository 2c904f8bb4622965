//go:build kafka

// A peer of sdk-go v1.1, the last that speaks Kafka: a source that takes a work through its life, or an agent that pretends
// to apply works. Its Kafka client is librdkafka.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	workinformers "open-cluster-management.io/api/client/work/informers/externalversions"
	workv1 "open-cluster-management.io/api/work/v1"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/clients/common"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/clients/options"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/clients/work"
	agentcodec "open-cluster-management.io/sdk-go/pkg/cloudevents/clients/work/agent/codec"
	sourcecodec "open-cluster-management.io/sdk-go/pkg/cloudevents/clients/work/source/codec"
	workstore "open-cluster-management.io/sdk-go/pkg/cloudevents/clients/work/store"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/generic/options/kafka"
)

const (
	name      = "probe"
	finalizer = "cluster.open-cluster-management.io/manifest-work-cleanup"
)

func main() {
	role := flag.String("role", "", "source or agent")
	config := flag.String("config", "", "file of the Kafka configuration")
	cluster := flag.String("cluster", "", "name of the cluster")
	source := flag.String("source", "", "id of the source")
	flag.Parse()

	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	kafkaOptions, err := kafka.BuildKafkaOptionsFromFlags(*config)
	if err == nil {
		switch *role {
		case "source":
			err = runSource(ctx, kafkaOptions, *source, *cluster)
		case "agent":
			err = runAgent(ctx, kafkaOptions, *cluster)
		default:
			err = errors.New("no such role")
		}
	}
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
}

// until looks again and again, and says what was seen.
func until(ctx context.Context, what string, seen func() bool) error {
	for !seen() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for: %s", what)
		case <-time.After(50 * time.Millisecond):
		}
	}
	fmt.Println("seen:", what)
	return nil
}

func manifest(value string) []workv1.Manifest {
	text := `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"cm","namespace":"default"},"data":{"value":"` + value + `"}}`
	return []workv1.Manifest{{RawExtension: runtime.RawExtension{Raw: []byte(text)}}}
}

func version(value string) map[string]string {
	return map[string]string{common.CloudEventsResourceVersionAnnotationKey: value}
}

func runSource(ctx context.Context, config *kafka.KafkaOptions, source, cluster string) error {
	store := workstore.NewSourceInformerWatcherStore(ctx)
	holder, err := work.NewSourceClientHolder(ctx, options.NewGenericClientOptions(
		config, sourcecodec.NewManifestBundleCodec(), source+"-client").WithClientWatcherStore(store).WithSourceID(source))
	if err != nil {
		return err
	}
	informer := workinformers.NewSharedInformerFactory(holder.WorkInterface(), 5*time.Minute).Work().V1().ManifestWorks().Informer()
	store.SetInformer(informer)
	go informer.Run(ctx.Done())
	if err := until(ctx, "the store is ready", informer.HasSynced); err != nil {
		return err
	}
	works := holder.ManifestWorks(cluster)
	says := func(message string) func() bool {
		return func() bool {
			one, err := works.Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return false
			}
			found := meta.FindStatusCondition(one.Status.Conditions, workv1.WorkApplied)
			return found != nil && found.Message == message
		}
	}
	one := &workv1.ManifestWork{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: cluster, Annotations: version("1")}}
	one.Spec.Workload.Manifests = manifest("1")
	if _, err := works.Create(ctx, one, metav1.CreateOptions{}); err != nil {
		return err
	}
	if err := until(ctx, "applied 1", says("value 1")); err != nil {
		return err
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"annotations": version("2")},
		"spec":     map[string]any{"workload": map[string]any{"manifests": manifest("2")}},
	})
	if err != nil {
		return err
	}
	if _, err := works.Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return err
	}
	if err := until(ctx, "applied 2", says("value 2")); err != nil {
		return err
	}
	if err := works.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		return err
	}
	return until(ctx, "deleted", func() bool {
		_, err := works.Get(ctx, name, metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
}

// runAgent answers every work with Applied, and lets go of those that are deleted, until it is killed.
func runAgent(ctx context.Context, config *kafka.KafkaOptions, cluster string) error {
	store := workstore.NewAgentInformerWatcherStore()
	holder, err := work.NewAgentClientHolder(ctx, options.NewGenericClientOptions(
		config, agentcodec.NewManifestBundleCodec(), cluster+"-agent").
		WithClientWatcherStore(store).WithClusterName(cluster))
	if err != nil {
		return err
	}
	informer := workinformers.NewSharedInformerFactoryWithOptions(
		holder.WorkInterface(), 5*time.Minute, workinformers.WithNamespace(cluster)).Work().V1().ManifestWorks().Informer()
	store.SetInformer(informer)
	go informer.Run(ctx.Done())
	for {
		for _, object := range informer.GetStore().List() {
			if err := settle(ctx, holder, object.(*workv1.ManifestWork)); err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// settle does the one next thing that a work needs.
func settle(ctx context.Context, holder *work.ClientHolder, last *workv1.ManifestWork) error {
	patch := func(metadata, status map[string]any, subresource ...string) error {
		metadata["uid"], metadata["resourceVersion"] = last.UID, last.ResourceVersion
		data, err := json.Marshal(map[string]any{"metadata": metadata, "status": status})
		if err != nil {
			return err
		}
		_, err = holder.ManifestWorks(last.Namespace).Patch(ctx, last.Name, types.MergePatchType, data, metav1.PatchOptions{}, subresource...)
		return err
	}
	switch {
	case !last.DeletionTimestamp.IsZero():
		if len(last.Finalizers) == 0 {
			return nil
		}
		fmt.Println("deleting", last.Name)
		return patch(map[string]any{"finalizers": []string{}}, nil)
	case len(last.Finalizers) == 0:
		return patch(map[string]any{"finalizers": []string{finalizer}}, nil)
	default:
		message := "generation " + fmt.Sprint(last.Generation)
		if known := meta.FindStatusCondition(last.Status.Conditions, workv1.WorkApplied); known != nil && known.Message == message {
			return nil
		}
		fmt.Println("applied", last.Name, message)
		return patch(map[string]any{}, map[string]any{"conditions": []metav1.Condition{{
			Type: workv1.WorkApplied, Status: metav1.ConditionTrue, Reason: "Done", Message: message, LastTransitionTime: metav1.Now()}}}, "status")
	}
}
