package main

import (
	"context"
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	workv1 "open-cluster-management.io/api/work/v1"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/generic/options/mqtt"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/work"
)

const finalizer = "cluster.open-cluster-management.io/manifest-work-cleanup"

// runAgent answers every work with Applied, and lets go of those that are deleted, until it is killed.
func runAgent(ctx context.Context, options *mqtt.MQTTOptions, cluster, data string) error {
	holder, err := work.NewClientHolderBuilder(cluster+"-agent", options).
		WithClusterName(cluster).WithCodecs(agentCodec(data)).NewClientHolder(ctx)
	if err != nil {
		return err
	}
	failed := make(chan error)
	handle := func(object any) {
		if err := settle(ctx, holder, object.(*workv1.ManifestWork)); err != nil {
			failed <- err
		}
	}
	informer := holder.ManifestWorkInformer().Informer()
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    handle,
		UpdateFunc: func(_, object any) { handle(object) },
		DeleteFunc: func(object any) {
			if gone, ok := object.(*workv1.ManifestWork); ok {
				fmt.Println("gone", gone.Name)
			}
		},
	}); err != nil {
		return err
	}
	go informer.Run(ctx.Done())
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// settle does the one next thing that a work needs.
func settle(ctx context.Context, holder *work.ClientHolder, last *workv1.ManifestWork) error {
	next := last.DeepCopy()
	switch {
	case !last.DeletionTimestamp.IsZero():
		next.Finalizers = nil
		fmt.Println("deleting", last.Name)
		return patch(ctx, holder, last, next)
	case len(last.Finalizers) == 0:
		next.Finalizers = []string{finalizer}
		return patch(ctx, holder, last, next)
	default:
		condition := metav1.Condition{Type: workv1.WorkApplied, Status: metav1.ConditionTrue, Reason: "Done",
			Message: "version " + last.ResourceVersion + " <&>"}
		known := meta.FindStatusCondition(last.Status.Conditions, condition.Type)
		if known != nil && known.Message == condition.Message {
			return nil
		}
		meta.SetStatusCondition(&next.Status.Conditions, condition)
		next.Status.ResourceStatus.Manifests = []workv1.ManifestCondition{{
			ResourceMeta: workv1.ManifestResourceMeta{Version: "v1", Kind: "ConfigMap", Resource: "configmaps", Name: "cm", Namespace: "default"},
			Conditions:   []metav1.Condition{condition},
		}}
		fmt.Println("applied", last.Name, "version", last.ResourceVersion, "configs", len(last.Spec.ManifestConfigs))
		return patch(ctx, holder, last, next, "status")
	}
}

func patch(ctx context.Context, holder *work.ClientHolder, last, next *workv1.ManifestWork, subresource ...string) error {
	data, err := merge(last, next)
	if err != nil {
		return err
	}
	_, err = holder.ManifestWorks(last.Namespace).Patch(ctx, last.Name, types.MergePatchType, data, metav1.PatchOptions{}, subresource...)
	return err
}

// merge says finalizers and status of the new state, which is all that changes here.
func merge(_, next *workv1.ManifestWork) ([]byte, error) {
	return json.Marshal(map[string]any{
		"metadata": map[string]any{"finalizers": next.Finalizers},
		"status":   next.Status,
	})
}
