package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	workinformers "open-cluster-management.io/api/client/work/informers/externalversions"
	workv1 "open-cluster-management.io/api/work/v1"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/clients/options"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/clients/work"
	agentcodec "open-cluster-management.io/sdk-go/pkg/cloudevents/clients/work/agent/codec"
	sourcecodec "open-cluster-management.io/sdk-go/pkg/cloudevents/clients/work/source/codec"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/clients/work/store"
)

// loadedStore is a source's store that counts as complete only when what the source owns from before is in it.
type loadedStore struct {
	*store.SourceInformerWatcherStore
	loaded atomic.Bool
}

func (s *loadedStore) HasInitiated() bool {
	return s.loaded.Load() && s.SourceInformerWatcherStore.HasInitiated()
}

func runSource(ctx context.Context, s settings) error {
	config, err := s.transport()
	if err != nil {
		return err
	}
	owned, err := readWorks(s.load)
	if err != nil {
		return err
	}
	works := &loadedStore{SourceInformerWatcherStore: store.NewSourceInformerWatcherStore(ctx)}
	holder, err := work.NewSourceClientHolder(ctx, options.NewGenericClientOptions(config, sourcecodec.NewManifestBundleCodec(), s.client).
		WithClientWatcherStore(works).WithSourceID(s.source))
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	informer := workinformers.NewSharedInformerFactory(holder.WorkInterface(), time.Hour).Work().V1().ManifestWorks().Informer()
	works.SetInformer(informer)
	if err := follow(ctx, informer); err != nil {
		return err
	}
	for i := range owned {
		if err := works.Add(&owned[i]); err != nil {
			return err
		}
	}
	for len(informer.GetStore().List()) < len(owned) {
		time.Sleep(10 * time.Millisecond)
	}
	works.loaded.Store(true)
	return obey(map[string]doing{
		"create": func(c command) (any, error) {
			object, err := parse[workv1.ManifestWork](c.Object)
			if err != nil {
				return nil, err
			}
			return holder.ManifestWorks(c.Namespace).Create(ctx, object, metav1.CreateOptions{})
		},
		"patch": func(c command) (any, error) {
			return holder.ManifestWorks(c.Namespace).Patch(ctx, c.Name, types.MergePatchType, c.Object, metav1.PatchOptions{})
		},
		"delete": func(c command) (any, error) {
			return nil, holder.ManifestWorks(c.Namespace).Delete(ctx, c.Name, metav1.DeleteOptions{})
		},
		"list": func(c command) (any, error) {
			list, err := holder.ManifestWorks(c.Namespace).List(ctx, metav1.ListOptions{})
			if err != nil {
				return nil, err
			}
			return list.Items, nil
		},
	})
}

func runAgent(ctx context.Context, s settings) error {
	config, err := s.transport()
	if err != nil {
		return err
	}
	holder, err := work.NewAgentClientHolder(ctx, options.NewGenericClientOptions(config, agentcodec.NewManifestBundleCodec(), s.agent).
		WithClientWatcherStore(store.NewAgentInformerWatcherStore()).WithClusterName(s.cluster))
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	informer := workinformers.NewSharedInformerFactoryWithOptions(holder.WorkInterface(), time.Hour,
		workinformers.WithNamespace(s.cluster)).Work().V1().ManifestWorks().Informer()
	if err := follow(ctx, informer); err != nil {
		return err
	}
	works := holder.ManifestWorks(s.cluster)
	// Patches carry the version that they are made of, as those of a controller do.
	patch := func(name string, change map[string]any, subresources ...string) (any, error) {
		last, err := works.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		metadata, _ := change["metadata"].(map[string]any)
		if metadata == nil {
			metadata = map[string]any{}
		}
		metadata["uid"], metadata["resourceVersion"] = last.UID, last.ResourceVersion
		change["metadata"] = metadata
		body, err := json.Marshal(change)
		if err != nil {
			return nil, err
		}
		return works.Patch(ctx, name, types.MergePatchType, body, metav1.PatchOptions{}, subresources...)
	}
	return obey(map[string]doing{
		"list": func(command) (any, error) {
			list, err := works.List(ctx, metav1.ListOptions{})
			if err != nil {
				return nil, err
			}
			return list.Items, nil
		},
		"status": func(c command) (any, error) {
			return patch(c.Name, map[string]any{"status": c.Object}, "status")
		},
		"finalizers": func(c command) (any, error) {
			return patch(c.Name, map[string]any{"metadata": map[string]any{"finalizers": append([]string{}, c.List...)}})
		},
	})
}

// follow starts an informer and reports every call of its handlers.
func follow(ctx context.Context, informer cache.SharedIndexInformer) error {
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { report("added", map[string]any{"object": object}) },
		UpdateFunc: func(_, object any) { report("modified", map[string]any{"object": object}) },
		DeleteFunc: func(object any) { report("deleted", map[string]any{"object": object}) },
	})
	if err != nil {
		return err
	}
	go informer.Run(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return ctx.Err()
	}
	return nil
}

func readWorks(file string) ([]workv1.ManifestWork, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	works, err := parse[[]workv1.ManifestWork](text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return *works, nil
}
