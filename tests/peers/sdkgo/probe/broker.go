package main

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	grpclib "google.golang.org/grpc"
	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"

	addonv1alpha1 "open-cluster-management.io/api/addon/v1alpha1"
	addonv1beta1 "open-cluster-management.io/api/addon/v1beta1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	workv1 "open-cluster-management.io/api/work/v1"
	addonalphaclient "open-cluster-management.io/sdk-go/pkg/cloudevents/clients/addon/v1alpha1"
	addonbetaclient "open-cluster-management.io/sdk-go/pkg/cloudevents/clients/addon/v1beta1"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/clients/cluster"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/clients/common"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/clients/csr"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/clients/event"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/clients/lease"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/clients/serviceaccount"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/clients/utils"
	sourcecodec "open-cluster-management.io/sdk-go/pkg/cloudevents/clients/work/source/codec"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/generic"
	pbv1 "open-cluster-management.io/sdk-go/pkg/cloudevents/generic/options/grpc/protobuf/v1"
	cetypes "open-cluster-management.io/sdk-go/pkg/cloudevents/generic/types"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/server"
	brokergrpc "open-cluster-management.io/sdk-go/pkg/cloudevents/server/grpc"
	servergrpc "open-cluster-management.io/sdk-go/pkg/server/grpc"
	"open-cluster-management.io/sdk-go/pkg/server/grpc/authn"
	"open-cluster-management.io/sdk-go/pkg/server/grpc/authz"
)

// hubSource is the sender of a hub's events, as in OCM.
const hubSource = "kube"

func runBroker(ctx context.Context, s settings) error {
	serving, err := servergrpc.LoadGRPCServerOptions(s.config)
	if err != nil {
		return fmt.Errorf("reading %s: %w", s.config, err)
	}
	owned, err := readWorks(s.load)
	if err != nil {
		return err
	}
	broker := brokergrpc.NewGRPCBroker(&brokergrpc.BrokerOptions{HeartbeatCheckInterval: s.heartbeat})
	held := map[string]holding{
		works:       serve(ctx, broker, works, generic.Codec[*workv1.ManifestWork](sourcecodec.NewManifestBundleCodec())),
		clusters:    serve(ctx, broker, clusters, generic.Codec[*clusterv1.ManagedCluster](cluster.NewManagedClusterCodec())),
		requests:    serve(ctx, broker, requests, generic.Codec[*certificatesv1.CertificateSigningRequest](csr.NewCSRCodec())),
		leases:      serve(ctx, broker, leases, generic.Codec[*coordinationv1.Lease](lease.NewLeaseCodec())),
		events:      serve(ctx, broker, events, generic.Codec[*eventsv1.Event](event.NewEventCodec())),
		addonsAlpha: serve(ctx, broker, addonsAlpha, generic.Codec[*addonv1alpha1.ManagedClusterAddOn](addonalphaclient.NewManagedClusterAddOnCodec())),
		addonsBeta:  serve(ctx, broker, addonsBeta, generic.Codec[*addonv1beta1.ManagedClusterAddOn](addonbetaclient.NewManagedClusterAddOnCodec())),
		tokens:      serve(ctx, broker, tokens, generic.Codec[*authenticationv1.TokenRequest](serviceaccount.NewTokenRequestCodec())),
	}
	for i := range owned {
		held[works].load(&owned[i])
	}
	everything := allowAll{}
	running := make(chan error, 1)
	go func() {
		running <- servergrpc.NewGRPCServer(serving).WithAuthenticator(authn.NewMtlsAuthenticator()).
			WithUnaryAuthorizer(everything).WithStreamAuthorizer(everything).
			WithRegisterFunc(func(at *grpclib.Server) { pbv1.RegisterCloudEventServiceServer(at, broker) }).Run(ctx)
	}()
	if err := listening("127.0.0.1:"+serving.ServerBindPort, running); err != nil {
		return err
	}
	dispatch := func(pick func(holding) doing) doing {
		return func(c command) (any, error) {
			if one, known := held[c.Kind]; known {
				return pick(one)(c)
			}
			return nil, fmt.Errorf("no kind %q here", c.Kind)
		}
	}
	return obey(map[string]doing{
		"put":    dispatch(func(h holding) doing { return h.put }),
		"delete": dispatch(func(h holding) doing { return h.remove }),
		"list":   dispatch(func(h holding) doing { return h.list }),
		// An event as it is, to the subscribers of its cluster.
		"raw": func(c command) (any, error) {
			event, err := parse[cloudevents.Event](c.Object)
			if err != nil {
				return nil, err
			}
			return nil, broker.HandleEvent(ctx, event)
		},
	})
}

// listening waits until somebody answers, or the server ended.
func listening(address string, running <-chan error) error {
	for {
		select {
		case err := <-running:
			return fmt.Errorf("the server ended: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
		if connection, err := net.Dial("tcp", address); err == nil {
			return connection.Close()
		}
	}
}

// allowAll lets everybody do everything who showed a certificate.
type allowAll struct{}

func (allowAll) AuthorizeRequest(context.Context, any) (authz.Decision, error) {
	return authz.DecisionAllow, nil
}

func (allowAll) AuthorizeStream(_ context.Context, stream grpclib.ServerStream, _ *grpclib.StreamServerInfo) (authz.Decision, grpclib.ServerStream, error) {
	return authz.DecisionAllow, stream, nil
}

// holding is what a service can be told.
type holding struct {
	put, remove, list doing
	load              func(object)
}

// service keeps the objects of one kind in memory, by the rules of OCM's hub.
type service[T object] struct {
	sync.Mutex
	kind    string
	codec   generic.Codec[T]
	objects map[types.UID]T
	version int64
	to      server.EventHandler
}

func serve[T interface {
	object
	*E
}, E any](ctx context.Context, broker *brokergrpc.GRPCBroker, kind string, codec generic.Codec[T]) holding {
	s := &service[T]{kind: kind, codec: codec, objects: map[types.UID]T{}}
	broker.RegisterService(ctx, codec.EventDataType(), s)
	return holding{
		put: typed(func(_ command, o *E) (any, error) { return s.put(ctx, o) }),
		remove: func(c command) (any, error) {
			return nil, s.remove(ctx, c.Namespace, c.Name)
		},
		list: func(command) (any, error) {
			s.Lock()
			defer s.Unlock()
			list := []T{}
			for _, one := range s.objects {
				list = append(list, one.DeepCopyObject().(T))
			}
			return list, nil
		},
		load: func(one object) {
			s.Lock()
			defer s.Unlock()
			s.objects[one.GetUID()] = one.(T)
		},
	}
}

// put creates or replaces; a work's generation grows with each change.
func (s *service[T]) put(ctx context.Context, next T) (T, error) {
	s.Lock()
	defer s.Unlock()
	action := cetypes.CreateRequestAction
	if last, known := s.find(next.GetNamespace(), next.GetName()); known {
		action = cetypes.UpdateRequestAction
		next.SetUID(last.GetUID())
		next.SetGeneration(last.GetGeneration() + 1)
		next.SetFinalizers(last.GetFinalizers())
		if old, ok := any(last).(*workv1.ManifestWork); ok {
			any(next).(*workv1.ManifestWork).Status = old.Status
		}
	} else {
		next.SetGeneration(1)
		if next.GetUID() == "" {
			next.SetUID(uuid.NewUUID())
		}
	}
	if work, ok := any(next).(*workv1.ManifestWork); ok {
		if err := utils.EncodeManifests(work); err != nil {
			return next, err
		}
	}
	s.keep(next)
	return next, s.tell(ctx, action, next)
}

func (s *service[T]) remove(ctx context.Context, namespace, name string) error {
	s.Lock()
	defer s.Unlock()
	last, known := s.find(namespace, name)
	if !known {
		return apierrors.NewNotFound(s.resource(), name)
	}
	next := last.DeepCopyObject().(T)
	now := metav1.Now()
	next.SetDeletionTimestamp(&now)
	if len(next.GetFinalizers()) == 0 {
		delete(s.objects, next.GetUID())
	} else {
		s.keep(next)
	}
	return s.tell(ctx, cetypes.DeleteRequestAction, next)
}

func (s *service[T]) find(namespace, name string) (found T, known bool) {
	for _, one := range s.objects {
		if one.GetNamespace() == namespace && one.GetName() == name {
			return one, true
		}
	}
	return found, false
}

func (s *service[T]) keep(one T) {
	s.version++
	one.SetResourceVersion(strconv.FormatInt(s.version, 10))
	s.objects[one.GetUID()] = one
}

func (s *service[T]) resource() schema.GroupResource {
	if s.kind == works {
		return common.ManifestWorkGR
	}
	of := s.codec.EventDataType()
	return schema.GroupResource{Group: of.Group, Resource: of.Resource}
}

func (s *service[T]) tell(ctx context.Context, action cetypes.EventAction, one T) error {
	event, err := s.codec.Encode(hubSource, cetypes.CloudEventsType{
		CloudEventsDataType: s.codec.EventDataType(), SubResource: cetypes.SubResourceSpec, Action: action}, one)
	if err != nil {
		return err
	}
	return s.to.HandleEvent(ctx, event)
}

// RegisterHandler is how the broker says where events go.
func (s *service[T]) RegisterHandler(_ context.Context, to server.EventHandler) {
	s.to = to
}

// List answers a resync.
func (s *service[T]) List(_ context.Context, options cetypes.ListOptions) ([]*cloudevents.Event, error) {
	s.Lock()
	defer s.Unlock()
	list := []*cloudevents.Event{}
	for _, one := range s.objects {
		event, err := s.codec.Encode(hubSource, cetypes.CloudEventsType{
			CloudEventsDataType: s.codec.EventDataType(), SubResource: cetypes.SubResourceSpec, Action: cetypes.CreateRequestAction}, one)
		if err != nil {
			return nil, err
		}
		if event.Extensions()[cetypes.ExtensionClusterName] == options.ClusterName {
			list = append(list, event)
		}
	}
	return list, nil
}

// HandleStatusUpdate takes every event of an agent, whatever its name says.
func (s *service[T]) HandleStatusUpdate(ctx context.Context, event *cloudevents.Event) error {
	sent, err := cetypes.ParseCloudEventsType(event.Type())
	if err != nil {
		return err
	}
	next, err := s.codec.Decode(event)
	if err != nil {
		return err
	}
	report("received", map[string]any{"kind": s.kind, "type": event.Type(), "user": ctx.Value(authn.ContextUserKey), "object": next})
	s.Lock()
	defer s.Unlock()
	if work, ok := any(next).(*workv1.ManifestWork); ok {
		return s.takeWork(work)
	}
	switch {
	case s.kind == tokens:
		token := any(next.DeepCopyObject()).(*authenticationv1.TokenRequest)
		token.Status.Token = "a token of " + token.Name
		return s.tell(ctx, cetypes.CreateRequestAction, any(token).(T))
	case sent.SubResource == cetypes.SubResourceSpec && sent.Action == cetypes.CreateRequestAction:
		if _, known := s.find(next.GetNamespace(), next.GetName()); known {
			return apierrors.NewAlreadyExists(s.resource(), next.GetName())
		}
		if next.GetUID() == "" {
			next.SetUID(uuid.NewUUID())
		}
	default:
		last, known := s.find(next.GetNamespace(), next.GetName())
		if !known {
			return apierrors.NewNotFound(s.resource(), next.GetName())
		}
		next.SetUID(last.GetUID())
	}
	s.keep(next)
	if s.kind == events {
		return nil
	}
	return s.tell(ctx, cetypes.UpdateRequestAction, next)
}

func (s *service[T]) takeWork(next *workv1.ManifestWork) error {
	stored, known := s.objects[next.UID]
	if !known {
		return nil
	}
	last := any(stored).(*workv1.ManifestWork)
	if meta.IsStatusConditionTrue(next.Status.Conditions, common.ResourceDeleted) {
		delete(s.objects, next.UID)
		return nil
	}
	if next.Generation < last.Generation {
		return nil
	}
	kept := last.DeepCopy()
	kept.Finalizers = utils.EnsureManifestWorkFinalizer(kept.Finalizers)
	kept.Status = next.Status
	s.keep(any(kept).(T))
	return nil
}
