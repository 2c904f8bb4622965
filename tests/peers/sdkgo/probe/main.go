// Command sdkgo-probe is a peer made of the public packages of open-cluster-management.io/sdk-go alone. Whoever starts it
// plays it: it does what the lines on its standard input say and tells on its standard output what happens.
//
//	sdkgo-probe source  -driver mqtt|grpc -config FILE -source ID [-client ID] [-load FILE]
//	sdkgo-probe agent   -driver mqtt|grpc -config FILE -cluster NAME [-agent ID]
//	sdkgo-probe hub     -driver mqtt|grpc -config FILE -source ID -kinds A,B
//	sdkgo-probe member  -driver mqtt|grpc -config FILE -cluster NAME [-agent ID] -kinds A,B
//	sdkgo-probe broker  -config FILE [-heartbeat DURATION] [-load FILE]
//	sdkgo-probe vectors
//
// FILE is a configuration file of sdk-go. `source` and `agent` are the two ends of works, `hub` and `member` those of the
// other kinds, `broker` is sdk-go's gRPC broker with services in memory, and `vectors` prints what the codecs write.
//
// A command is one JSON object on one line, with `id` and `do`; its answer has the same `id`, and `ok` or `error`.
// Everything else on standard output is an event. The first is `{"event":"ready"}`. It ends when its standard input does.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"open-cluster-management.io/sdk-go/pkg/cloudevents/generic/clients"
	"open-cluster-management.io/sdk-go/pkg/cloudevents/generic/options/builder"
)

// settings are what the command line says.
type settings struct {
	driver, config, source, client, cluster, agent, load, kinds string
	heartbeat, backoff                                          time.Duration
}

func main() {
	roles := map[string]func(context.Context, settings) error{
		"source": runSource, "agent": runAgent, "hub": runHub, "member": runMember, "broker": runBroker, "vectors": runVectors,
	}
	if len(os.Args) < 2 || roles[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: sdkgo-probe source|agent|hub|member|broker|vectors [flags]")
		os.Exit(2)
	}
	var s settings
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	flags.StringVar(&s.driver, "driver", "grpc", "mqtt or grpc")
	flags.StringVar(&s.config, "config", "", "configuration file of sdk-go")
	flags.StringVar(&s.source, "source", "hub-a", "source id")
	flags.StringVar(&s.client, "client", "", "client id of a source; its source id when empty")
	flags.StringVar(&s.cluster, "cluster", "cluster1", "the managed cluster")
	flags.StringVar(&s.agent, "agent", "sdkgo-probe", "agent id")
	flags.StringVar(&s.load, "load", "", "JSON list of works that the source owns from before")
	flags.StringVar(&s.kinds, "kinds", "", "plural names of kinds, separated by commas")
	flags.DurationVar(&s.heartbeat, "heartbeat", 10*time.Second, "time between signs of life of the broker")
	flags.DurationVar(&s.backoff, "backoff", time.Second, "wait before a lost link is opened again (5 s when left to sdk-go)")
	klog.InitFlags(flags)
	if err := flags.Parse(os.Args[2:]); err != nil {
		os.Exit(2)
	}
	if s.client == "" {
		s.client = s.source
	}
	// How soon a peer comes back is no part of the protocol, and much of the time of a test.
	clients.DelayFn = wait.Backoff{Duration: s.backoff, Cap: 5 * s.backoff, Steps: 12, Factor: 1.5, Jitter: 0.2}.
		DelayWithReset(&clock.RealClock{}, time.Minute)
	if err := roles[os.Args[1]](context.Background(), s); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// transport reads the configuration of the driver.
func (s settings) transport() (any, error) {
	_, loaded, err := builder.NewConfigLoader(s.driver, s.config).LoadConfig()
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", s.config, err)
	}
	return loaded, nil
}

func (s settings) kindList() []string {
	return strings.Split(s.kinds, ",")
}
