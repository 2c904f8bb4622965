// A peer of sdk-go v0.13: a source that takes a work through its life, or an agent that pretends to apply works, over MQTT.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"

	workv1 "open-cluster-management.io/api/work/v1"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/generic"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/generic/options/mqtt"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/work/agent/codec"
)

func main() {
	role := flag.String("role", "", "source or agent")
	config := flag.String("config", "", "file of the MQTT configuration")
	cluster := flag.String("cluster", "", "name of the cluster")
	source := flag.String("source", "", "id of the source")
	data := flag.String("data", "manifestbundles", "manifestbundles or manifests")
	flag.Parse()

	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	options, err := mqtt.BuildMQTTOptionsFromFlags(*config)
	if err == nil {
		switch *role {
		case "source":
			err = runSource(ctx, options, *source, *cluster, *data)
		case "agent":
			err = runAgent(ctx, options, *cluster, *data)
		default:
			err = fmt.Errorf("no role %q", *role)
		}
	}
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
}

// agentCodec is the one of v0.13 itself.
func agentCodec(data string) generic.Codec[*workv1.ManifestWork] {
	if data == "manifestbundles" {
		return codec.NewManifestBundleCodec()
	}
	mapper := meta.NewDefaultRESTMapper(nil)
	mapper.Add(schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}, meta.RESTScopeNamespace)
	return codec.NewManifestCodec(mapper)
}
