package main

import (
	"context"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	cloudeventsmqtt "github.com/cloudevents/sdk-go/protocol/mqtt_paho/v2"
	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/eclipse/paho.golang/paho"
	"google.golang.org/protobuf/proto"
	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	eventsv1 "k8s.io/api/events/v1"

	addonv1alpha1 "open-cluster-management.io/api/addon/v1alpha1"
	addonv1beta1 "open-cluster-management.io/api/addon/v1beta1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	workv1 "open-cluster-management.io/api/work/v1"
	addonalphaclient "open-cluster-management.io/sdk-go/pkg/cloudevents/clients/addon/v1alpha1"
	addonbetaclient "open-cluster-management.io/sdk-go/pkg/cloudevents/clients/addon/v1beta1"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/clients/cluster"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/clients/csr"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/clients/event"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/clients/lease"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/clients/serviceaccount"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/clients/statushash"
	agentcodec "open-cluster-management.io/sdk-go/pkg/cloudevents/clients/work/agent/codec"
	workpayload "open-cluster-management.io/sdk-go/pkg/cloudevents/clients/work/payload"
	sourcecodec "open-cluster-management.io/sdk-go/pkg/cloudevents/clients/work/source/codec"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/generic"
	pbv1 "open-cluster-management.io/sdk-go/pkg/cloudevents/generic/options/grpc/protobuf/v1"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/generic/options/grpc/protocol"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/generic/payload"
	cetypes "open-cluster-management.io/sdk-go/pkg/cloudevents/generic/types"
)

// objects.json has objects by kind: each is encoded by every codec that can.
//
//go:embed objects.json
var objectsText []byte

func runVectors(ctx context.Context, _ settings) error {
	var of map[string][]json.RawMessage
	if err := json.Unmarshal(objectsText, &of); err != nil {
		return err
	}
	return firstError(
		func() error { return workVectors(ctx, of[works]) },
		func() error { return resyncVectors(ctx) },
		func() error {
			return wholeVectors(ctx, clusters, of[clusters], generic.Codec[*clusterv1.ManagedCluster](cluster.NewManagedClusterCodec()))
		},
		func() error {
			return wholeVectors(ctx, requests, of[requests], generic.Codec[*certificatesv1.CertificateSigningRequest](csr.NewCSRCodec()))
		},
		func() error {
			return wholeVectors(ctx, leases, of[leases], generic.Codec[*coordinationv1.Lease](lease.NewLeaseCodec()))
		},
		func() error {
			return wholeVectors(ctx, events, of[events], generic.Codec[*eventsv1.Event](event.NewEventCodec()))
		},
		func() error {
			return wholeVectors(ctx, addonsAlpha, of[addonsAlpha], generic.Codec[*addonv1alpha1.ManagedClusterAddOn](addonalphaclient.NewManagedClusterAddOnCodec()))
		},
		func() error {
			return wholeVectors(ctx, addonsBeta, of[addonsBeta], generic.Codec[*addonv1beta1.ManagedClusterAddOn](addonbetaclient.NewManagedClusterAddOnCodec()))
		},
		func() error {
			return wholeVectors(ctx, tokens, of[tokens], generic.Codec[*authenticationv1.TokenRequest](serviceaccount.NewTokenRequestCodec()))
		},
	)
}

func firstError(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// workVectors has each work as a source sends it and as an agent reports it, and what the other side reads.
func workVectors(ctx context.Context, texts []json.RawMessage) error {
	source, agent := sourcecodec.NewManifestBundleCodec(), agentcodec.NewManifestBundleCodec()
	for _, text := range texts {
		work, err := parse[workv1.ManifestWork](text)
		if err != nil {
			return err
		}
		hash, err := statushash.StatusHash(work)
		if err != nil {
			return err
		}
		action := cetypes.CreateRequestAction
		if work.DeletionTimestamp != nil {
			action = cetypes.DeleteRequestAction
		}
		spec, err := source.Encode("hub-a", bundles(cetypes.SubResourceSpec, action), work)
		if err != nil {
			return err
		}
		received, err := agent.Decode(spec)
		if err != nil {
			return fmt.Errorf("%s: %w", work.Name, err)
		}
		if err := vector(ctx, "work spec", spec, map[string]any{"object": work, "decoded": received}); err != nil {
			return err
		}
		reported := received.DeepCopy()
		reported.Status = work.Status
		status, err := agent.Encode("edge-7-work-agent", bundles(cetypes.SubResourceStatus, cetypes.UpdateRequestAction), reported)
		if err != nil {
			return err
		}
		known, err := source.Decode(status)
		if err != nil {
			return err
		}
		if err := vector(ctx, "work status", status, map[string]any{"object": reported, "decoded": known, "hash": hash}); err != nil {
			return err
		}
	}
	return nil
}

func resyncVectors(ctx context.Context) error {
	lists := []struct {
		name, cluster string
		sub           cetypes.EventSubResource
		data          any
	}{
		{"versions", "edge-7", cetypes.SubResourceSpec, payload.ResourceVersionList{Versions: []payload.ResourceVersion{{ResourceID: "a", ResourceVersion: 3}, {ResourceID: "b"}}}},
		{"versions", "edge-7", cetypes.SubResourceSpec, payload.ResourceVersionList{Versions: []payload.ResourceVersion{}}},
		{"hashes", "", cetypes.SubResourceStatus, payload.ResourceStatusHashList{Hashes: []payload.ResourceStatusHash{{ResourceID: "a", StatusHash: "0a"}, {ResourceID: "b", StatusHash: "0b"}}}},
		{"hashes", "edge-7", cetypes.SubResourceStatus, payload.ResourceStatusHashList{Hashes: []payload.ResourceStatusHash{}}},
	}
	for _, list := range lists {
		asked := cetypes.NewEventBuilder("asker", bundles(list.sub, cetypes.ResyncRequestAction)).WithClusterName(list.cluster).NewEvent()
		if err := asked.SetData(cloudevents.ApplicationJSON, list.data); err != nil {
			return err
		}
		if err := vector(ctx, "resync "+list.name, &asked, map[string]any{"object": list.data}); err != nil {
			return err
		}
	}
	gone := cetypes.NewEventBuilder("hub-a", bundles(cetypes.SubResourceSpec, cetypes.ResyncResponseAction)).
		WithResourceID("a").WithResourceVersion(2).WithClusterName("edge-7").WithDeletionTimestamp(time.Now()).NewEvent()
	return vector(ctx, "resync deletion", &gone, map[string]any{})
}

func wholeVectors[T interface {
	object
	*E
}, E any](ctx context.Context, kind string, texts []json.RawMessage, codec generic.Codec[T]) error {
	for _, text := range texts {
		parsed, err := parse[E](text)
		if err != nil {
			return err
		}
		one := T(parsed)
		encoded, err := codec.Encode("hub-a", cetypes.CloudEventsType{
			CloudEventsDataType: codec.EventDataType(), SubResource: cetypes.SubResourceSpec, Action: cetypes.CreateRequestAction}, one)
		if err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
		decoded, err := codec.Decode(encoded)
		if err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
		fields := map[string]any{"object": one, "decoded": decoded}
		if hash, err := statushash.StatusHash(one); err == nil {
			fields["hash"] = hash
		}
		if err := vector(ctx, "whole "+kind, encoded, fields); err != nil {
			return err
		}
	}
	return nil
}

func bundles(sub cetypes.EventSubResource, action cetypes.EventAction) cetypes.CloudEventsType {
	return cetypes.CloudEventsType{CloudEventsDataType: workpayload.ManifestBundleEventDataType, SubResource: sub, Action: action}
}

// vector prints an event as JSON, as MQTT and as protobuf carry it.
func vector(ctx context.Context, name string, of *cloudevents.Event, fields map[string]any) error {
	packet := &paho.Publish{}
	if err := cloudeventsmqtt.WritePubMessage(ctx, binding.ToMessage(of), packet); err != nil {
		return err
	}
	properties := [][2]string{}
	for _, property := range packet.Properties.User {
		properties = append(properties, [2]string{property.Key, property.Value})
	}
	message := &pbv1.CloudEvent{}
	if err := protocol.WritePBMessage(ctx, binding.ToMessage(of), message); err != nil {
		return err
	}
	bytes, err := proto.Marshal(message)
	if err != nil {
		return err
	}
	// As text: its data is to be compared byte by byte.
	text, err := json.Marshal(of)
	if err != nil {
		return err
	}
	fields["event"], fields["vector"] = string(text), name
	fields["mqtt"] = map[string]any{"contentType": packet.Properties.ContentType, "properties": properties, "payload": hex.EncodeToString(packet.Payload)}
	fields["grpc"] = hex.EncodeToString(bytes)
	say(fields)
	return nil
}
