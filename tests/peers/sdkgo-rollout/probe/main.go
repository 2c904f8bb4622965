// Answers rollout cases with sdk-go's own handler: a JSON list of cases on standard input, a list of answers on standard output.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	clocktesting "k8s.io/utils/clock/testing"

	clusterv1alpha1 "open-cluster-management.io/api/cluster/v1alpha1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	rollout "open-cluster-management.io/sdk-go/pkg/apis/cluster/v1alpha1"
	tracker "open-cluster-management.io/sdk-go/pkg/apis/cluster/v1beta1"
)

type group struct {
	Index    int32    `json:"index"`
	Name     string   `json:"name"`
	Clusters []string `json:"clusters"`
}

type known struct {
	Cluster string `json:"cluster"`
	State   string `json:"state"`
	Since   *int64 `json:"since"`
}

type question struct {
	Now      int64                           `json:"now"`
	Strategy clusterv1alpha1.RolloutStrategy `json:"strategy"`
	Groups   []group                         `json:"groups"`
	Existing []known                         `json:"existing"`
}

type step struct {
	Cluster   string `json:"cluster"`
	State     string `json:"state"`
	Index     int32  `json:"index"`
	Name      string `json:"name"`
	RecheckAt *int64 `json:"recheckAt"`
}

type answer struct {
	Error        string `json:"error"`
	Rollout      []step `json:"rollout"`
	TimedOut     []step `json:"timedOut"`
	Removed      []step `json:"removed"`
	Breached     bool   `json:"breached"`
	RecheckAfter *int64 `json:"recheckAfter"`
}

var states = map[string]rollout.RolloutStatus{
	"ToApply": rollout.ToApply, "Progressing": rollout.Progressing, "Succeeded": rollout.Succeeded,
	"Failed": rollout.Failed, "TimeOut": rollout.TimeOut, "Skip": rollout.Skip,
}

func name(of rollout.RolloutStatus) string {
	for text, state := range states {
		if state == of {
			return text
		}
	}
	return strconv.Itoa(int(of))
}

// decisions stands in for the lister of PlacementDecisions.
type decisions []*clusterv1beta1.PlacementDecision

func (d decisions) List(labels.Selector, string) ([]*clusterv1beta1.PlacementDecision, error) {
	return d, nil
}

func steps(list []rollout.ClusterRolloutStatus) []step {
	found := []step{}
	for _, one := range list {
		s := step{Cluster: one.ClusterName, State: name(one.Status), Index: one.GroupKey.GroupIndex, Name: one.GroupKey.GroupName}
		if one.RecheckTime != nil {
			second := one.RecheckTime.Unix()
			s.RecheckAt = &second
		}
		found = append(found, s)
	}
	return found
}

func decide(asked question) answer {
	rollout.RolloutClock = clocktesting.NewFakeClock(time.Unix(asked.Now, 0))
	var list decisions
	for at, group := range asked.Groups {
		decision := &clusterv1beta1.PlacementDecision{ObjectMeta: metav1.ObjectMeta{
			Name: fmt.Sprintf("p-decision-%d", at+1), Namespace: "n",
			Labels: map[string]string{
				clusterv1beta1.PlacementLabel:          "p",
				clusterv1beta1.DecisionGroupIndexLabel: strconv.Itoa(int(group.Index)),
				clusterv1beta1.DecisionGroupNameLabel:  group.Name,
			},
		}}
		for _, cluster := range group.Clusters {
			decision.Status.Decisions = append(decision.Status.Decisions, clusterv1beta1.ClusterDecision{ClusterName: cluster})
		}
		list = append(list, decision)
	}
	placement := &clusterv1beta1.Placement{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "n"}}
	groups := tracker.NewPlacementDecisionClustersTracker(placement, list, nil)
	if err := groups.Refresh(); err != nil {
		return answer{Error: err.Error()}
	}
	var existing []rollout.ClusterRolloutStatus
	for _, one := range asked.Existing {
		state, ok := states[one.State]
		if !ok {
			return answer{Error: "no such state: " + one.State}
		}
		status := rollout.ClusterRolloutStatus{ClusterName: one.Cluster, Status: state}
		if one.Since != nil {
			status.LastTransitionTime = &metav1.Time{Time: time.Unix(*one.Since, 0)}
		}
		existing = append(existing, status)
	}
	handler, err := rollout.NewRolloutHandler[string](groups, nil)
	if err != nil {
		return answer{Error: err.Error()}
	}
	_, result, err := handler.GetRolloutCluster(asked.Strategy, existing)
	if err != nil {
		return answer{Error: err.Error()}
	}
	said := answer{
		Rollout: steps(result.ClustersToRollout), TimedOut: steps(result.ClustersTimeOut), Removed: steps(result.ClustersRemoved),
		Breached: result.MaxFailureBreach,
	}
	if result.RecheckAfter != nil {
		seconds := int64(*result.RecheckAfter / time.Second)
		said.RecheckAfter = &seconds
	}
	return said
}

func main() {
	var asked []question
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		fmt.Fprintln(os.Stderr, "the cases cannot be read:", err)
		os.Exit(1)
	}
	answers := []answer{}
	for _, one := range asked {
		answers = append(answers, decide(one))
	}
	if err := json.NewEncoder(os.Stdout).Encode(answers); err != nil {
		fmt.Fprintln(os.Stderr, "the answers cannot be written:", err)
		os.Exit(1)
	}
}
