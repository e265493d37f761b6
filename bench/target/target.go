// Package target is what dill wants to reach, as data, and the judge of it.
// Nothing else says whether a target is met: the verdict follows from the
// measured ratios each time.
package target

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"dill/bench/result"
	"dill/bench/stat"
)

// Target is a limit on a metric of dill in a scenario: of its ratio to a peer
// measured in the same round, or of the value itself.
type Target struct {
	What     string
	Scenario string
	Metric   string
	Peers    []string // the ratio is to the best of these in each round; none = the value itself
	AtLeast  bool     // else at most
	Limit    float64
}

// All are the targets, in the order in which they are shown.
var All = []Target{
	atLeast("bulk, 1 stream up", "bulk1", result.Throughput, 1.05, "haproxy"),
	atLeast("bulk, 1 stream up", "bulk1", result.Throughput, 1.5, "nginx"),
	atLeast("bulk, 1 stream down", "bulk1down", result.Throughput, 1.05, "haproxy"),
	atLeast("bulk, 1 stream down", "bulk1down", result.Throughput, 1.5, "nginx"),
	atLeast("bulk, 8 streams up", "bulk8", result.Throughput, 1.05, "haproxy"),
	atLeast("bulk, 8 streams up", "bulk8", result.Throughput, 1.5, "nginx"),
	atLeast("bulk, 8 streams down", "bulk8down", result.Throughput, 1.05, "haproxy"),
	atLeast("bulk, 8 streams down", "bulk8down", result.Throughput, 1.5, "nginx"),
	atMost("processor time per GB, 1 stream up", "bulk1", result.CPUPerGB, 1, "haproxy"),
	atMost("processor time per GB, 1 stream down", "bulk1down", result.CPUPerGB, 1, "haproxy"),
	atMost("processor time per GB, 8 streams up", "bulk8", result.CPUPerGB, 1, "haproxy"),
	atMost("processor time per GB, 8 streams down", "bulk8down", result.CPUPerGB, 1, "haproxy"),
	atLeast("bulk, unprivileged, 1 stream", "bulk1user", result.Throughput, 1.05, "haproxy"),
	atLeast("bulk, unprivileged, 1 stream", "bulk1user", result.Throughput, 1.5, "nginx"),
	atLeast("bulk, unprivileged, 8 streams", "bulk8user", result.Throughput, 1.05, "haproxy"),
	atLeast("bulk, unprivileged, 8 streams", "bulk8user", result.Throughput, 1.5, "nginx"),
	atLeast("request/response, 1 connection", "rr1", result.Rate, 1.15, "nginx"),
	atLeast("request/response, 1 connection", "rr1", result.Rate, 1.25, "haproxy"),
	atLeast("request/response, 64 connections", "rr64", result.Rate, 1, "nginx"),
	atLeast("request/response, 64 connections", "rr64", result.Rate, 1.15, "haproxy"),
	atMost("p99 at 64 connections", "rr64", result.P99, 1, "nginx"),
	atLeast("new connection per request", "conn", result.Rate, 1, "haproxy", "nginx"),
	atMost("user-space memory per idle connection", "idle", result.BytesPerConn, 512),
	atMost("descriptors per idle connection", "idle", result.FilesPerConn, 2),
	atMost("2,000 listeners: memory over the empty table", "listeners2000", result.RSSOverEmpty, 20e6),
	atMost("2,000 listeners: until all are open", "listeners2000", result.AllOpen, 1),
	atMost("allocations per message", "rr64", result.MallocsPerOp, 100.0/100_000),
	atMost("allocations per connection", "conn", result.MallocsPerOp, 100.0/20_000),
	atMost("register to served, 300 services, p50", "register300", result.OpenP50, 15),
	atMost("register to served, 300 services, p99", "register300", result.OpenP99, 100),
	atMost("deregister to closed, 300 services, p50", "register300", result.CloseP50, 15),
	atMost("deregister to closed, 300 services, p99", "register300", result.CloseP99, 100),
	atMost("register to served, 2,000 services, p50", "register2000", result.OpenP50, 30),
	atMost("register to served, 2,000 services, p99", "register2000", result.OpenP99, 200),
	atMost("deregister to closed, 2,000 services, p50", "register2000", result.CloseP50, 30),
	atMost("deregister to closed, 2,000 services, p99", "register2000", result.CloseP99, 200),
	atMost("new instance to served, 2,000 services, p50", "instance2000", result.OpenP50, 300),
	atMost("new instance to served, 2,000 services, p99", "instance2000", result.OpenP99, 1000),
	atMost("cold start with 2,000 services", "register2000", result.ColdStart, 3),
	atMost("connections to Consul with 2,000 services", "register2000", result.ConsulConns, 150),
	atMost("requests to Consul for a change", "changes2000", result.Requests, 6),
	atMost("p99 while tables are published, × at rest", "publish", result.P99Slowdown, 2),
}

func atLeast(what, scenario, metric string, limit float64, peers ...string) Target {
	return Target{what, scenario, metric, peers, true, limit}
}

func atMost(what, scenario, metric string, limit float64, peers ...string) Target {
	return Target{what, scenario, metric, peers, false, limit}
}

// ID names the target; it stays the same from release to release.
func (t Target) ID() string {
	return strings.Join(append([]string{t.Scenario, t.Metric}, t.Peers...), "/")
}

// Wanted writes the limit: "≥ 1.05 × haproxy", "≤ 512 B".
func (t Target) Wanted() string {
	sign := "≤"
	if t.AtLeast {
		sign = "≥"
	}
	if len(t.Peers) == 0 {
		return sign + " " + result.MetricNamed(t.Metric).Format(t.Limit)
	}
	whom := t.Peers[0]
	if len(t.Peers) > 1 {
		whom = "the better of " + strings.Join(t.Peers, " and ")
	}
	return fmt.Sprintf("%s %.4g × %s", sign, t.Limit, whom)
}

// Measured returns what was measured of the target, one value a round.
func (t Target) Measured(row *result.Row, subject string) []float64 {
	if row == nil || row.Error != "" {
		return nil
	}
	own := row.Values(subject, t.Metric)
	more := result.MetricNamed(t.Metric).More
	var values []float64
	for _, round := range slices.Sorted(maps.Keys(own)) {
		if len(t.Peers) == 0 {
			values = append(values, own[round])
			continue
		}
		best, all := 0.0, true
		for i, peer := range t.Peers {
			v, ok := row.Values(peer, t.Metric)[round]
			all = all && ok
			if i == 0 || more == (v > best) {
				best = v
			}
		}
		if all {
			values = append(values, stat.Ratios([]float64{own[round]}, []float64{best})...)
		}
	}
	return values
}

// Judge compares the row with the target.
func (t Target) Judge(row *result.Row, subject string) result.Target {
	s := stat.Summarize(t.Measured(row, subject))
	return result.Target{
		ID: t.ID(), What: t.What, Wanted: t.Wanted(), Got: s,
		Metric: t.Metric, Ratio: len(t.Peers) > 0,
		Verdict: stat.Judge(s, t.Limit, t.AtLeast),
	}
}

// Doubtful returns whom more rounds of the row's scenario should measure, as
// some target is undecided: subject, and the peers of that target. Without a
// doubt there is nobody.
func Doubtful(row *result.Row, subject string) []string {
	var names []string
	for _, t := range All {
		if t.Scenario == row.Scenario && t.Judge(row, subject).Verdict == stat.Undecided {
			names = append(names, subject)
			names = append(names, t.Peers...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Peers returns whom subject is held against in a scenario.
func Peers(scenario string) []string {
	var names []string
	for _, t := range All {
		if t.Scenario == scenario {
			names = append(names, t.Peers...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
