// Command client-go-probe does with a Kubernetes API what Go controllers do with it: typed clients, informers,
// server-side apply, leader election, custom resources, paging, garbage collection.
//
//	client-go-probe -kubeconfig FILE [-context NAME] [-run NAME,NAME]
//
// It prints one line for each scenario and exits with 1 when one of them fails. It makes a namespace of its own and
// removes it, so it may run against a server that is in use.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	corev1apply "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/util/retry"
)

const patience = 20 * time.Second

type probe struct {
	config    *rest.Config
	kube      kubernetes.Interface
	dynamic   dynamic.Interface
	extension apiextensions.Interface
	namespace string
}

type scenario struct {
	name string
	run  func(context.Context, *probe) error
}

var scenarios = []scenario{
	{"typed", typed},
	{"informer", informer},
	{"apply", apply},
	{"conflict", conflict},
	{"paging", paging},
	{"metadata", metadataInformer},
	{"custom", custom},
	{"election", election},
	{"discovery", discover},
	{"garbage", garbage},
}

func main() {
	kubeconfig := flag.String("kubeconfig", "", "kubeconfig file")
	name := flag.String("context", "", "context in it (default: the current one)")
	only := flag.String("run", "", "scenarios to run, separated by commas (default: all)")
	flag.Parse()
	p, err := connect(*kubeconfig, *name)
	if err != nil {
		fmt.Println("FAIL connect:", err)
		os.Exit(1)
	}
	failed := 0
	for _, s := range scenarios {
		if *only != "" && !strings.Contains(","+*only+",", ","+s.name+",") {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
		start := time.Now()
		if err := s.run(ctx, p); err != nil {
			failed++
			fmt.Printf("FAIL %s: %v\n", s.name, err)
		} else {
			fmt.Printf("ok   %s %.2fs\n", s.name, time.Since(start).Seconds())
		}
		cancel()
	}
	if err := p.kube.CoreV1().Namespaces().Delete(context.Background(), p.namespace, metav1.DeleteOptions{}); err != nil {
		fmt.Println("FAIL clean-up:", err)
		failed++
	}
	if failed > 0 {
		os.Exit(1)
	}
}

func connect(kubeconfig, name string) (*probe, error) {
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		&clientcmd.ClientConfigLoadingRules{ExplicitPath: kubeconfig},
		&clientcmd.ConfigOverrides{CurrentContext: name}).ClientConfig()
	if err != nil {
		return nil, err
	}
	config.QPS, config.Burst = 500, 500
	p := &probe{config: config}
	if p.kube, err = kubernetes.NewForConfig(config); err != nil {
		return nil, err
	}
	if p.dynamic, err = dynamic.NewForConfig(config); err != nil {
		return nil, err
	}
	if p.extension, err = apiextensions.NewForConfig(config); err != nil {
		return nil, err
	}
	ns, err := p.kube.CoreV1().Namespaces().Create(context.Background(),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "client-go-"}}, metav1.CreateOptions{})
	if err != nil {
		return nil, err
	}
	p.namespace = ns.Name
	return p, nil
}

func until(ctx context.Context, what string, done func() (bool, error)) error {
	err := wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, patience, true,
		func(context.Context) (bool, error) { return done() })
	if err != nil {
		return fmt.Errorf("waiting for %s: %w", what, err)
	}
	return nil
}

func expect(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, args...)
}

func configMap(name string, data map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data}
}

// Typed clients speak protobuf by themselves.
func typed(ctx context.Context, p *probe) error {
	maps := p.kube.CoreV1().ConfigMaps(p.namespace)
	made, err := maps.Create(ctx, configMap("typed", map[string]string{"a": "1"}), metav1.CreateOptions{})
	if err != nil {
		return err
	}
	made.Data["a"] = "2"
	changed, err := maps.Update(ctx, made, metav1.UpdateOptions{})
	if err != nil {
		return err
	}
	if err := expect(changed.ResourceVersion != made.ResourceVersion, "an update kept the resource version"); err != nil {
		return err
	}
	secret, err := p.kube.CoreV1().Secrets(p.namespace).Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "typed"}, StringData: map[string]string{"k": "v"}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	if err := expect(string(secret.Data["k"]) == "v" && secret.Type == corev1.SecretTypeOpaque, "secret came back as %v", secret); err != nil {
		return err
	}
	replicas := int32(2)
	labels := map[string]string{"app": "typed"}
	deployment, err := p.kube.AppsV1().Deployments(p.namespace).Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "typed"},
		Spec: appsv1.DeploymentSpec{Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "example/app:1"}}}}},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	pod := deployment.Spec.Template.Spec
	if err := expect(pod.RestartPolicy == corev1.RestartPolicyAlways && pod.DNSPolicy == corev1.DNSClusterFirst &&
		deployment.Spec.Strategy.Type == appsv1.RollingUpdateDeploymentStrategyType && deployment.Generation == 1,
		"deployment was not defaulted: %+v", deployment); err != nil {
		return err
	}
	_, err = maps.Create(ctx, configMap("typed", nil), metav1.CreateOptions{})
	if err := expect(apierrors.IsAlreadyExists(err), "second create: %v", err); err != nil {
		return err
	}
	if err := maps.Delete(ctx, "typed", metav1.DeleteOptions{}); err != nil {
		return err
	}
	_, err = maps.Get(ctx, "typed", metav1.GetOptions{})
	return expect(apierrors.IsNotFound(err), "get after delete: %v", err)
}

func informer(ctx context.Context, p *probe) error {
	maps := p.kube.CoreV1().ConfigMaps(p.namespace)
	for i := range 3 {
		if _, err := maps.Create(ctx, configMap(fmt.Sprintf("informed-%d", i), nil), metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	factory := informers.NewSharedInformerFactoryWithOptions(p.kube, 0, informers.WithNamespace(p.namespace))
	shared := factory.Core().V1().ConfigMaps().Informer()
	var added, updated, deleted atomic.Int32
	mine := func(obj any) bool {
		if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
			obj = gone.Obj
		}
		return strings.HasPrefix(obj.(*corev1.ConfigMap).Name, "informed-")
	}
	if _, err := shared.AddEventHandler(cache.FilteringResourceEventHandler{FilterFunc: mine, Handler: cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { added.Add(1) }, UpdateFunc: func(any, any) { updated.Add(1) }, DeleteFunc: func(any) { deleted.Add(1) },
	}}); err != nil {
		return err
	}
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), shared.HasSynced) {
		return errors.New("the informer did not sync")
	}
	if err := until(ctx, "three objects", func() (bool, error) { return added.Load() == 3, nil }); err != nil {
		return err
	}
	patch := []byte(`{"data":{"x":"y"}}`)
	if _, err := maps.Patch(ctx, "informed-0", types.StrategicMergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return err
	}
	if err := maps.Delete(ctx, "informed-1", metav1.DeleteOptions{}); err != nil {
		return err
	}
	if err := until(ctx, "one update and one deletion", func() (bool, error) {
		return updated.Load() == 1 && deleted.Load() == 1, nil
	}); err != nil {
		return fmt.Errorf("%w (added %d, updated %d, deleted %d)", err, added.Load(), updated.Load(), deleted.Load())
	}
	return nil
}

func apply(ctx context.Context, p *probe) error {
	maps := p.kube.CoreV1().ConfigMaps(p.namespace)
	config := func(value string) *corev1apply.ConfigMapApplyConfiguration {
		return corev1apply.ConfigMap("applied", p.namespace).WithData(map[string]string{"shared": value})
	}
	if _, err := maps.Apply(ctx, config("one").WithLabels(map[string]string{"by": "first"}), metav1.ApplyOptions{FieldManager: "first"}); err != nil {
		return err
	}
	_, err := maps.Apply(ctx, config("two"), metav1.ApplyOptions{FieldManager: "second"})
	if err := expect(apierrors.IsConflict(err) && strings.Contains(err.Error(), `conflict with "first": .data.shared`),
		"a foreign field did not conflict: %v", err); err != nil {
		return err
	}
	got, err := maps.Apply(ctx, config("two"), metav1.ApplyOptions{FieldManager: "second", Force: true})
	if err != nil {
		return err
	}
	if err := expect(got.Data["shared"] == "two" && got.Labels["by"] == "first", "forced apply gave %v %v", got.Data, got.Labels); err != nil {
		return err
	}
	mine, err := corev1apply.ExtractConfigMap(got, "second")
	if err != nil {
		return fmt.Errorf("managed fields cannot be read: %w", err)
	}
	if err := expect(len(mine.Data) == 1 && mine.Labels == nil, "second owns %v %v", mine.Data, mine.Labels); err != nil {
		return err
	}
	// What a manager no longer applies, and nobody else owns, goes.
	got, err = maps.Apply(ctx, corev1apply.ConfigMap("applied", p.namespace), metav1.ApplyOptions{FieldManager: "first"})
	if err != nil {
		return err
	}
	return expect(len(got.Labels) == 0 && got.Data["shared"] == "two", "after giving up the label: %v %v", got.Labels, got.Data)
}

func conflict(ctx context.Context, p *probe) error {
	maps := p.kube.CoreV1().ConfigMaps(p.namespace)
	stale, err := maps.Create(ctx, configMap("contended", nil), metav1.CreateOptions{})
	if err != nil {
		return err
	}
	fresh := stale.DeepCopy()
	fresh.Data = map[string]string{"a": "1"}
	if _, err := maps.Update(ctx, fresh, metav1.UpdateOptions{}); err != nil {
		return err
	}
	stale.Data = map[string]string{"b": "2"}
	_, err = maps.Update(ctx, stale, metav1.UpdateOptions{})
	if err := expect(apierrors.IsConflict(err), "a stale update gave %v", err); err != nil {
		return err
	}
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		now, err := maps.Get(ctx, "contended", metav1.GetOptions{})
		if err != nil {
			return err
		}
		now.Data["b"] = "2"
		_, err = maps.Update(ctx, now, metav1.UpdateOptions{})
		return err
	})
}

func paging(ctx context.Context, p *probe) error {
	maps := p.kube.CoreV1().ConfigMaps(p.namespace)
	labels := map[string]string{"paged": "yes"}
	for i := range 7 {
		made := configMap(fmt.Sprintf("page-%d", i), nil)
		made.Labels = labels
		if _, err := maps.Create(ctx, made, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	seen, options := 0, metav1.ListOptions{Limit: 3, LabelSelector: "paged=yes"}
	version := ""
	for {
		page, err := maps.List(ctx, options)
		if err != nil {
			return err
		}
		seen += len(page.Items)
		if version == "" {
			version = page.ResourceVersion
			// A later object belongs to no page of this list.
			if _, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "page-late", Labels: labels}}, metav1.CreateOptions{}); err != nil {
				return err
			}
		}
		if err := expect(page.ResourceVersion == version, "pages have versions %s and %s", version, page.ResourceVersion); err != nil {
			return err
		}
		if options.Continue = page.Continue; options.Continue == "" {
			break
		}
	}
	return expect(seen == 7, "pages held %d objects", seen)
}

func metadataInformer(ctx context.Context, p *probe) error {
	client, err := metadata.NewForConfig(p.config)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	factory := metadatainformer.NewFilteredSharedInformerFactory(client, 0, p.namespace, nil)
	secrets := factory.ForResource(corev1.SchemeGroupVersion.WithResource("secrets"))
	stored := secrets.Informer()
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), stored.HasSynced) {
		return errors.New("the informer did not sync")
	}
	obj, err := secrets.Lister().ByNamespace(p.namespace).Get("typed")
	if err != nil {
		return err
	}
	partial, ok := obj.(*metav1.PartialObjectMetadata)
	return expect(ok && partial.UID != "", "metadata of the secret is %v", obj)
}

func custom(ctx context.Context, p *probe) error {
	group := p.namespace + ".example.com"
	widgets := schema.GroupVersionResource{Group: group, Version: "v1", Resource: "widgets"}
	one := 1.0
	definition := &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "widgets." + group},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: group, Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: "widgets", Kind: "Widget"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{Name: "v1", Served: true, Storage: true,
				Subresources: &apiextensionsv1.CustomResourceSubresources{Status: &apiextensionsv1.CustomResourceSubresourceStatus{}},
				Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object",
					Properties: map[string]apiextensionsv1.JSONSchemaProps{
						"spec": {Type: "object", Required: []string{"size"}, Properties: map[string]apiextensionsv1.JSONSchemaProps{
							"size":  {Type: "integer", Minimum: &one},
							"color": {Type: "string", Default: &apiextensionsv1.JSON{Raw: []byte(`"red"`)}},
						}, XValidations: apiextensionsv1.ValidationRules{{Rule: "self.color != 'plaid' || self.size > 3", Message: "plaid must be large"}}},
						"status": {Type: "object", XPreserveUnknownFields: ptr(true)},
					}}}}},
		},
	}
	if _, err := p.extension.ApiextensionsV1().CustomResourceDefinitions().Create(ctx, definition, metav1.CreateOptions{}); err != nil {
		return err
	}
	defer func() {
		_ = p.extension.ApiextensionsV1().CustomResourceDefinitions().Delete(context.Background(), definition.Name, metav1.DeleteOptions{})
	}()
	if err := until(ctx, "the definition", func() (bool, error) {
		now, err := p.extension.ApiextensionsV1().CustomResourceDefinitions().Get(ctx, definition.Name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		for _, c := range now.Status.Conditions {
			if c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue {
				return true, nil
			}
		}
		return false, nil
	}); err != nil {
		return err
	}
	client := p.dynamic.Resource(widgets).Namespace(p.namespace)
	widget := func(name string, spec map[string]any) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{"apiVersion": group + "/v1", "kind": "Widget",
			"metadata": map[string]any{"name": name}, "spec": spec}}
	}
	var made *unstructured.Unstructured
	// A real server needs a moment between Established and the first write.
	if err := until(ctx, "the first object", func() (bool, error) {
		var err error
		made, err = client.Create(ctx, widget("good", map[string]any{"size": int64(1), "unknown": true}), metav1.CreateOptions{})
		return err == nil, nil
	}); err != nil {
		return err
	}
	color, _, _ := unstructured.NestedString(made.Object, "spec", "color")
	_, kept, _ := unstructured.NestedFieldNoCopy(made.Object, "spec", "unknown")
	if err := expect(color == "red" && !kept && made.GetGeneration() == 1, "defaulted and pruned to %v", made.Object); err != nil {
		return err
	}
	for name, spec := range map[string]map[string]any{
		"small": {"size": int64(0)}, "text": {"size": "big"}, "missing": {}, "plaid": {"size": int64(2), "color": "plaid"},
	} {
		_, err := client.Create(ctx, widget(name, spec), metav1.CreateOptions{})
		if err := expect(apierrors.IsInvalid(err), "invalid widget %s gave %v", name, err); err != nil {
			return err
		}
	}
	made.Object["status"] = map[string]any{"phase": "fine"}
	ready, err := client.UpdateStatus(ctx, made, metav1.UpdateOptions{})
	if err != nil {
		return err
	}
	phase, _, _ := unstructured.NestedString(ready.Object, "status", "phase")
	return expect(phase == "fine" && ready.GetGeneration() == 1, "status write gave %v", ready.Object)
}

func ptr[T any](value T) *T { return &value }

// Two candidates: one leads, gives up, the other takes over.
func election(ctx context.Context, p *probe) error {
	lead := func(ctx context.Context, id string, leading chan<- string) error {
		lock := &resourcelock.LeaseLock{LeaseMeta: metav1.ObjectMeta{Name: "election", Namespace: p.namespace},
			Client: p.kube.CoordinationV1(), LockConfig: resourcelock.ResourceLockConfig{Identity: id}}
		elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
			Lock: lock, LeaseDuration: 3 * time.Second, RenewDeadline: 2 * time.Second, RetryPeriod: 200 * time.Millisecond, ReleaseOnCancel: true,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: func(context.Context) { leading <- id },
				OnStoppedLeading: func() {},
			}})
		if err != nil {
			return err
		}
		go elector.Run(ctx)
		return nil
	}
	leading := make(chan string, 2)
	first, resign := context.WithCancel(ctx)
	defer resign()
	second, stop := context.WithCancel(ctx)
	defer stop()
	if err := lead(first, "first", leading); err != nil {
		return err
	}
	if err := expect(receive(ctx, leading) == "first", "the first candidate does not lead"); err != nil {
		return err
	}
	if err := lead(second, "second", leading); err != nil {
		return err
	}
	resign()
	return expect(receive(ctx, leading) == "second", "nobody took over")
}

func receive(ctx context.Context, from <-chan string) string {
	select {
	case text := <-from:
		return text
	case <-ctx.Done():
		return ctx.Err().Error()
	}
}

func discover(_ context.Context, p *probe) error {
	client, err := discovery.NewDiscoveryClientForConfig(p.config)
	if err != nil {
		return err
	}
	lists, err := client.ServerPreferredResources()
	if err != nil {
		return err
	}
	found := map[string]bool{}
	for _, list := range lists {
		for _, resource := range list.APIResources {
			found[list.GroupVersion+"/"+resource.Name] = true
		}
	}
	for _, want := range []string{"v1/configmaps", "apps/v1/deployments", "batch/v1/jobs", "rbac.authorization.k8s.io/v1/roles",
		"coordination.k8s.io/v1/leases", "networking.k8s.io/v1/networkpolicies", "apiextensions.k8s.io/v1/customresourcedefinitions"} {
		if err := expect(found[want], "%s is not discovered", want); err != nil {
			return err
		}
	}
	paths, err := client.OpenAPIV3().Paths()
	if err != nil {
		return err
	}
	if _, err := paths["apis/apps/v1"].Schema("application/json"); err != nil {
		return err
	}
	_, err = client.ServerVersion()
	return err
}

// An owned object goes with its owner.
func garbage(ctx context.Context, p *probe) error {
	maps := p.kube.CoreV1().ConfigMaps(p.namespace)
	owner, err := maps.Create(ctx, configMap("owner", nil), metav1.CreateOptions{})
	if err != nil {
		return err
	}
	owned := configMap("owned", nil)
	owned.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: owner.Name, UID: owner.UID}}
	if _, err := maps.Create(ctx, owned, metav1.CreateOptions{}); err != nil {
		return err
	}
	background := metav1.DeletePropagationBackground
	if err := maps.Delete(ctx, "owner", metav1.DeleteOptions{PropagationPolicy: &background}); err != nil {
		return err
	}
	return until(ctx, "the owned object to go", func() (bool, error) {
		_, err := maps.Get(ctx, "owned", metav1.GetOptions{})
		return apierrors.IsNotFound(err), nil
	})
}
