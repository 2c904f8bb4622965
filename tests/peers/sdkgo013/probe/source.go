package main

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	cetypes "github.com/cloudevents/sdk-go/v2/types"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	kubetypes "k8s.io/apimachinery/pkg/types"

	workv1 "open-cluster-management.io/api/work/v1"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/generic"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/generic/options/mqtt"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/generic/types"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/work"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/work/payload"
)

// uid of the one work that the source has.
const uid = "7d0fd7a0-1f2b-5a53-9a43-6f0e0a1c1b11"

// owner is the source's store.
type owner struct {
	sync.Mutex
	source  string
	works   map[kubetypes.UID]*workv1.ManifestWork
	changed chan struct{}
}

func (o *owner) List(options types.ListOptions) ([]*workv1.ManifestWork, error) {
	o.Lock()
	defer o.Unlock()
	list := []*workv1.ManifestWork{}
	for _, one := range o.works {
		if options.ClusterName == types.ClusterAll || options.ClusterName == one.Namespace {
			list = append(list, one.DeepCopy())
		}
	}
	return list, nil
}

func (o *owner) put(one *workv1.ManifestWork) {
	o.Lock()
	defer o.Unlock()
	o.works[one.UID] = one
}

// handle takes what an agent reports.
func (o *owner) handle(action types.ResourceAction, report *workv1.ManifestWork) error {
	if action != types.StatusModified {
		return fmt.Errorf("unexpected action %s", action)
	}
	o.Lock()
	if known, ok := o.works[report.UID]; ok {
		next := known.DeepCopy()
		next.Status = report.Status
		o.works[report.UID] = next
	}
	o.Unlock()
	o.changed <- struct{}{}
	return nil
}

// wait until the status of the work is as it should be.
func (o *owner) wait(ctx context.Context, what string, fits func(*workv1.ManifestWork) bool) error {
	for {
		o.Lock()
		one := o.works[uid]
		o.Unlock()
		if fits(one) {
			fmt.Println("seen:", what)
			return nil
		}
		select {
		case <-o.changed:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s; the status is %+v", what, one.Status)
		}
	}
}

func applied(message string) func(*workv1.ManifestWork) bool {
	return func(one *workv1.ManifestWork) bool {
		found := meta.FindStatusCondition(one.Status.Conditions, workv1.WorkApplied)
		return found != nil && found.Status == metav1.ConditionTrue && found.Message == message
	}
}

// runSource creates a work, updates it, asks for its status anew, and deletes it.
func runSource(ctx context.Context, options *mqtt.MQTTOptions, source, cluster, data string) error {
	o := &owner{source: source, works: map[kubetypes.UID]*workv1.ManifestWork{}, changed: make(chan struct{}, 100)}
	codec := sourceCodec{dataType: payload.ManifestBundleEventDataType}
	if data == "manifests" {
		codec.dataType = payload.ManifestEventDataType
	}
	client, err := generic.NewCloudEventSourceClient[*workv1.ManifestWork](
		ctx, mqtt.NewSourceOptions(options, source+"-client", source), o, work.ManifestWorkStatusHash, codec)
	if err != nil {
		return err
	}
	client.Subscribe(ctx, o.handle)
	// v0.13 does not say when it has subscribed.
	time.Sleep(time.Second)

	one := &workv1.ManifestWork{}
	one.UID, one.Name, one.Namespace, one.ResourceVersion = uid, "web", cluster, "1"
	spec := func(value string) {
		one.Spec.Workload.Manifests = []workv1.Manifest{{RawExtension: runtime.RawExtension{
			Raw: []byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"cm","namespace":"default"},"data":{"value":"` + value + `"}}`)}}}
		one.Spec.ManifestConfigs = []workv1.ManifestConfigOption{{
			ResourceIdentifier: workv1.ResourceIdentifier{Resource: "configmaps", Name: "cm", Namespace: "default"},
			FeedbackRules:      []workv1.FeedbackRule{{Type: workv1.JSONPathsType, JsonPaths: []workv1.JsonPath{{Name: "value", Path: ".data.value"}}}},
		}}
	}
	publish := func(action types.EventAction) error {
		o.put(one.DeepCopy())
		return client.Publish(ctx, types.CloudEventsType{CloudEventsDataType: codec.dataType, SubResource: types.SubResourceSpec, Action: action}, one)
	}
	spec("1")
	if err := publish("create_request"); err != nil {
		return err
	}
	if err := o.wait(ctx, "applied 1", applied("value 1")); err != nil {
		return err
	}
	spec("2")
	one.ResourceVersion = "2"
	if err := publish("update_request"); err != nil {
		return err
	}
	if err := o.wait(ctx, "applied 2", applied("value 2")); err != nil {
		return err
	}
	// As after a restart without memory of statuses: the hash differs, so the agent says it again.
	o.put(one.DeepCopy())
	if err := client.Resync(ctx, cluster); err != nil {
		return err
	}
	if err := o.wait(ctx, "the status again", applied("value 2")); err != nil {
		return err
	}
	now := metav1.Now()
	o.Lock()
	one.Status = o.works[uid].Status
	o.Unlock()
	one.DeletionTimestamp = &now
	if err := publish("delete_request"); err != nil {
		return err
	}
	return o.wait(ctx, "deleted", func(one *workv1.ManifestWork) bool {
		return meta.IsStatusConditionTrue(one.Status.Conditions, "Deleted")
	})
}

// sourceCodec is what users of v0.13 had to write themselves.
type sourceCodec struct{ dataType types.CloudEventsDataType }

func (c sourceCodec) EventDataType() types.CloudEventsDataType { return c.dataType }

func (c sourceCodec) Encode(source string, eventType types.CloudEventsType, one *workv1.ManifestWork) (*cloudevents.Event, error) {
	version, err := strconv.ParseInt(one.ResourceVersion, 10, 64)
	if err != nil {
		return nil, err
	}
	builder := types.NewEventBuilder(source, eventType).
		WithResourceID(string(one.UID)).WithResourceVersion(version).WithClusterName(one.Namespace)
	if !one.DeletionTimestamp.IsZero() {
		event := builder.WithDeletionTimestamp(one.DeletionTimestamp.Time).NewEvent()
		return &event, nil
	}
	event := builder.NewEvent()
	var data any = payload.ManifestBundle{Manifests: one.Spec.Workload.Manifests, ManifestConfigs: one.Spec.ManifestConfigs}
	if c.dataType == payload.ManifestEventDataType {
		object := unstructured.Unstructured{}
		if err := object.UnmarshalJSON(one.Spec.Workload.Manifests[0].Raw); err != nil {
			return nil, err
		}
		data = &payload.Manifest{Manifest: object, ConfigOption: &payload.ManifestConfigOption{FeedbackRules: one.Spec.ManifestConfigs[0].FeedbackRules}}
	}
	return &event, event.SetData(cloudevents.ApplicationJSON, data)
}

func (c sourceCodec) Decode(event *cloudevents.Event) (*workv1.ManifestWork, error) {
	sent, err := types.ParseCloudEventsType(event.Type())
	if err != nil {
		return nil, err
	}
	extensions := event.Extensions()
	id, err := cetypes.ToString(extensions[types.ExtensionResourceID])
	if err != nil {
		return nil, err
	}
	version, err := cetypes.ToInteger(extensions[types.ExtensionResourceVersion])
	if err != nil {
		return nil, err
	}
	if _, err := cetypes.ToString(extensions[types.ExtensionStatusUpdateSequenceID]); err != nil {
		return nil, err
	}
	one := &workv1.ManifestWork{}
	one.UID, one.ResourceVersion = kubetypes.UID(id), strconv.FormatInt(int64(version), 10)
	if c.dataType == payload.ManifestEventDataType {
		status := payload.ManifestStatus{}
		if err := event.DataAs(&status); err != nil {
			return nil, err
		}
		one.Status.Conditions = status.Conditions
		if status.Status != nil {
			one.Status.ResourceStatus.Manifests = []workv1.ManifestCondition{*status.Status}
		}
	} else {
		status := payload.ManifestBundleStatus{}
		if err := event.DataAs(&status); err != nil {
			return nil, err
		}
		one.Status.Conditions = status.Conditions
		one.Status.ResourceStatus.Manifests = status.ResourceStatus
	}
	if meta.IsStatusConditionTrue(one.Status.Conditions, "Deleted") && sent.Action != "delete_request" {
		return nil, fmt.Errorf("the last word came as %s", sent.Action)
	}
	return one, nil
}
