package main

import (
	"context"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	addonv1alpha1 "open-cluster-management.io/api/addon/v1alpha1"
	addonv1beta1 "open-cluster-management.io/api/addon/v1beta1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	addonalphaclient "open-cluster-management.io/sdk-go/pkg/cloudevents/clients/addon/v1alpha1"
	addonbetaclient "open-cluster-management.io/sdk-go/pkg/cloudevents/clients/addon/v1beta1"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/clients/cluster"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/clients/csr"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/clients/event"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/clients/lease"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/clients/options"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/clients/serviceaccount"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/clients/store"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/generic"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/generic/options/grpc"
	cetypes "open-cluster-management.io/sdk-go/pkg/cloudevents/generic/types"
)

// Names of kinds in commands and events.
const (
	works       = "manifestworks"
	clusters    = "managedclusters"
	requests    = "certificatesigningrequests"
	leases      = "leases"
	events      = "events"
	addonsAlpha = "managedclusteraddons.v1alpha1"
	addonsBeta  = "managedclusteraddons.v1beta1"
	tokens      = "tokenrequests"
)

type object interface {
	generic.ResourceObject
	metav1.Object
	runtime.Object
}

// member is one kind in the hands of an agent: what its public client can do.
type member struct {
	create, update doing
	// patch merges `object` into the status, or into an event.
	patch doing
	list  doing
}

func runMember(ctx context.Context, s settings) error {
	shared, err := s.transport()
	if err != nil {
		return err
	}
	members := map[string]member{}
	for _, kind := range s.kindList() {
		config := shared
		if s.driver == "mqtt" {
			// An MQTT connection belongs to one client.
			if config, err = s.transport(); err != nil {
				return err
			}
		}
		if members[kind], err = newMember(ctx, s, kind, config); err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
	}
	dispatch := func(pick func(member) doing) doing {
		return func(c command) (any, error) {
			if do := pick(members[c.Kind]); do != nil {
				return do(c)
			}
			return nil, fmt.Errorf("no %s for kind %q", c.Do, c.Kind)
		}
	}
	return obey(map[string]doing{
		"create": dispatch(func(m member) doing { return m.create }),
		"update": dispatch(func(m member) doing { return m.update }),
		"patch":  dispatch(func(m member) doing { return m.patch }),
		"list":   dispatch(func(m member) doing { return m.list }),
	})
}

func newMember(ctx context.Context, s settings, kind string, config any) (member, error) {
	switch kind {
	case clusters:
		opts, all := memberOptions(ctx, s, kind, config, generic.Codec[*clusterv1.ManagedCluster](cluster.NewManagedClusterCodec()))
		holder, err := cluster.NewClientHolder(ctx, opts)
		if err != nil {
			return member{}, err
		}
		return member{
			create: typed(func(_ command, o *clusterv1.ManagedCluster) (any, error) {
				return holder.ManagedClusters().Create(ctx, o, metav1.CreateOptions{})
			}),
			patch: func(c command) (any, error) {
				return holder.ManagedClusters().Patch(ctx, c.Name, types.MergePatchType, c.Object, metav1.PatchOptions{}, "status")
			},
			list: all,
		}, nil
	case requests:
		opts, all := memberOptions(ctx, s, kind, config, generic.Codec[*certificatesv1.CertificateSigningRequest](csr.NewCSRCodec()))
		holder, err := csr.NewAgentClientHolder(ctx, opts)
		if err != nil {
			return member{}, err
		}
		return member{
			create: typed(func(_ command, o *certificatesv1.CertificateSigningRequest) (any, error) {
				return holder.Clients().Create(ctx, o, metav1.CreateOptions{})
			}),
			list: all,
		}, nil
	case leases:
		simple := store.NewSimpleStore[*coordinationv1.Lease]()
		client, err := lease.NewLeaseClient(ctx, options.NewGenericClientOptions(config, lease.NewLeaseCodec(), s.agent+"-"+kind).
			WithClientWatcherStore(simple).WithClusterName(s.cluster), s.cluster)
		if err != nil {
			return member{}, err
		}
		return member{
			update: typed(func(_ command, o *coordinationv1.Lease) (any, error) {
				return client.Update(ctx, o, metav1.UpdateOptions{})
			}),
			list: func(command) (any, error) { return simple.ListAll(ctx) },
		}, nil
	case events:
		client, err := options.NewGenericClientOptions(config, event.NewEventCodec(), s.agent+"-"+kind).
			WithClusterName(s.cluster).WithSubscription(false).WithResyncEnabled(false).AgentClient(ctx)
		if err != nil {
			return member{}, err
		}
		recorder := event.NewEventClient(client).WithNamespace(s.cluster)
		return member{
			create: typed(func(_ command, o *eventsv1.Event) (any, error) {
				return recorder.Create(ctx, o, metav1.CreateOptions{})
			}),
			patch: func(c command) (any, error) {
				return recorder.Patch(ctx, c.Name, types.MergePatchType, c.Object, metav1.PatchOptions{})
			},
		}, nil
	case addonsAlpha:
		opts, all := memberOptions(ctx, s, kind, config, generic.Codec[*addonv1alpha1.ManagedClusterAddOn](addonalphaclient.NewManagedClusterAddOnCodec()))
		client, err := opts.AgentClient(ctx)
		if err != nil {
			return member{}, err
		}
		addons := addonalphaclient.NewManagedClusterAddOnClient(client, opts.WatcherStore()).Namespace(s.cluster)
		return member{
			patch: func(c command) (any, error) {
				return addons.Patch(ctx, c.Name, types.MergePatchType, c.Object, metav1.PatchOptions{}, "status")
			},
			list: all,
		}, nil
	case addonsBeta:
		opts, all := memberOptions(ctx, s, kind, config, generic.Codec[*addonv1beta1.ManagedClusterAddOn](addonbetaclient.NewManagedClusterAddOnCodec()))
		client, err := opts.AgentClient(ctx)
		if err != nil {
			return member{}, err
		}
		addons := addonbetaclient.NewManagedClusterAddOnClient(client, opts.WatcherStore()).Namespace(s.cluster)
		return member{
			patch: func(c command) (any, error) {
				return addons.Patch(ctx, c.Name, types.MergePatchType, c.Object, metav1.PatchOptions{}, "status")
			},
			list: all,
		}, nil
	case tokens:
		connection, ok := config.(*grpc.GRPCOptions)
		if !ok {
			return member{}, fmt.Errorf("sdk-go asks for tokens over gRPC alone")
		}
		accounts := serviceaccount.NewServiceAccountClient(s.cluster, connection)
		return member{create: typed(func(c command, o *authenticationv1.TokenRequest) (any, error) {
			return accounts.CreateToken(ctx, c.Name, o, metav1.CreateOptions{})
		})}, nil
	}
	return member{}, fmt.Errorf("unknown kind")
}

func memberOptions[T object](ctx context.Context, s settings, kind string, config any, codec generic.Codec[T]) (*options.GenericClientOptions[T], doing) {
	watched := store.NewAgentInformerWatcherStore[T]()
	watch(kind, watched)
	opts := options.NewGenericClientOptions(config, codec, s.agent+"-"+kind).WithClientWatcherStore(watched).WithClusterName(s.cluster)
	return opts, func(command) (any, error) { return watched.ListAll(ctx) }
}

// watch reports what a store tells its watcher; a store waits for its watcher.
func watch[T object](kind string, from *store.AgentInformerWatcherStore[T]) {
	go func() {
		for change := range from.Watcher.ResultChan() {
			report("changed", map[string]any{"kind": kind, "change": change.Type, "object": change.Object})
		}
	}()
}

func typed[T any](do func(command, *T) (any, error)) doing {
	return func(c command) (any, error) {
		object, err := parse[T](c.Object)
		if err != nil {
			return nil, err
		}
		return do(c, object)
	}
}

// runHub is the owner of other kinds behind a message broker: sdk-go's generic source.
func runHub(ctx context.Context, s settings) error {
	puts, lists := map[string]doing{}, map[string]doing{}
	for _, kind := range s.kindList() {
		config, err := s.transport()
		if err != nil {
			return err
		}
		switch kind {
		case clusters:
			puts[kind], lists[kind], err = newOwner(ctx, s, kind, config, generic.Codec[*clusterv1.ManagedCluster](cluster.NewManagedClusterCodec()))
		case requests:
			puts[kind], lists[kind], err = newOwner(ctx, s, kind, config, generic.Codec[*certificatesv1.CertificateSigningRequest](csr.NewCSRCodec()))
		case leases:
			puts[kind], lists[kind], err = newOwner(ctx, s, kind, config, generic.Codec[*coordinationv1.Lease](lease.NewLeaseCodec()))
		case addonsAlpha:
			puts[kind], lists[kind], err = newOwner(ctx, s, kind, config, generic.Codec[*addonv1alpha1.ManagedClusterAddOn](addonalphaclient.NewManagedClusterAddOnCodec()))
		case addonsBeta:
			puts[kind], lists[kind], err = newOwner(ctx, s, kind, config, generic.Codec[*addonv1beta1.ManagedClusterAddOn](addonbetaclient.NewManagedClusterAddOnCodec()))
		default:
			err = fmt.Errorf("sdk-go has no source for them")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
	}
	dispatch := func(by map[string]doing) doing {
		return func(c command) (any, error) {
			if do, known := by[c.Kind]; known {
				return do(c)
			}
			return nil, fmt.Errorf("no kind %q here", c.Kind)
		}
	}
	return obey(map[string]doing{"put": dispatch(puts), "list": dispatch(lists)})
}

func newOwner[T interface {
	object
	*E
}, E any](ctx context.Context, s settings, kind string, config any, codec generic.Codec[T]) (put, list doing, err error) {
	watched := store.NewAgentInformerWatcherStore[T]()
	watch(kind, watched)
	client, err := options.NewGenericClientOptions(config, codec, s.client+"-"+kind).
		WithClientWatcherStore(watched).WithSourceID(s.source).SourceClient(ctx)
	if err != nil {
		return nil, nil, err
	}
	put = typed(func(c command, o *E) (any, error) {
		kept := T(o)
		action, keep := cetypes.CreateRequestAction, watched.Update
		if kept.GetDeletionTimestamp() != nil {
			action, keep = cetypes.DeleteRequestAction, watched.Delete
		} else if _, known, _ := watched.Get(ctx, kept.GetNamespace(), kept.GetName()); known {
			action = cetypes.UpdateRequestAction
		}
		if err := keep(kept); err != nil {
			return nil, err
		}
		return nil, client.Publish(ctx, cetypes.CloudEventsType{CloudEventsDataType: codec.EventDataType(), SubResource: cetypes.SubResourceSpec, Action: action}, kept)
	})
	return put, func(command) (any, error) { return watched.ListAll(ctx) }, nil
}
