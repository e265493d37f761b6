package scenario

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"dill/bench/load"
	"dill/bench/peer"
	"dill/bench/result"
)

// unprivileged names the scenarios that run the proxy as an ordinary user.
const unprivileged = true

// bulk is streams in one direction.
func bulk(name string, conns int, download, asUser bool) Scenario {
	direction := "client to backend"
	if download {
		direction = "backend to client"
	}
	title := fmt.Sprintf("bulk, %s, %s", plural(conns, "stream"), direction)
	if asUser {
		title += ", unprivileged"
	}
	return traffic(Scenario{
		Name: name, Title: title,
		Show: []string{result.Throughput, result.CPUPerGB, result.ProxyCPU, result.ClientCPU, result.SinkCPU},
	}, load.Spec{Kind: load.Bulk, Conns: conns, Download: download}, asUser)
}

// requests is the ping-pong of small messages.
func requests(name string, conns, size int) Scenario {
	return traffic(Scenario{
		Name: name, Title: fmt.Sprintf("request/response, %s, %d B", plural(conns, "connection"), size),
		Show: []string{result.Rate, result.P50, result.P90, result.P99, result.P999, result.CPUPerOp, result.MallocsPerOp, result.GCCycles},
	}, load.Spec{Kind: load.Requests, Conns: conns, Size: size}, false)
}

// connects is a new connection for each request.
func connects(name string, conns int) Scenario {
	return traffic(Scenario{
		Name: name, Title: fmt.Sprintf("new connection per request, %d at a time", conns),
		Show: []string{result.Rate, result.P50, result.P99, result.CPUPerOp, result.MallocsPerOp, result.GCCycles},
	}, load.Spec{Kind: load.Connects, Conns: conns, Size: 64}, false)
}

// traffic completes s, which sends spec through a peer.
func traffic(s Scenario, spec load.Spec, asUser bool) Scenario {
	s.Measure = func(ctx context.Context, r *Rig, p peer.Peer) (*Turn, error) {
		var u *user.User
		if asUser {
			u = r.User
		}
		return r.send(ctx, p, u, spec)
	}
	s.Length = func(r *Rig) time.Duration { return r.Warmup + r.Duration + 500*time.Millisecond }
	return s
}

// start puts p to work as u, with one listener; stop ends it and takes its files
// away.
func (r *Rig) start(ctx context.Context, p peer.Peer, u *user.User) (running *peer.Running, stop func(), err error) {
	at, cleanup, err := r.site(1, u)
	if err != nil {
		return nil, nil, err
	}
	if running, err = p.Start(ctx, at); err != nil {
		cleanup()
		return nil, nil, err
	}
	return running, func() { running.Stop(); cleanup() }, nil
}

// send starts p, sends spec through it, and ends it.
func (r *Rig) send(ctx context.Context, p peer.Peer, u *user.User, spec load.Spec) (*Turn, error) {
	running, stop, err := r.start(ctx, p, u)
	if err != nil {
		return nil, err
	}
	defer stop()
	return r.through(ctx, running, spec)
}

// through sends spec through a peer that runs.
func (r *Rig) through(ctx context.Context, running *peer.Running, spec load.Spec) (*Turn, error) {
	spec.Targets = running.Targets
	spec.Warmup, spec.Duration = r.Warmup, r.Duration
	spec.Watch = map[string][]int{"sink": {r.Sink.PID()}}
	if len(running.PIDs) > 0 {
		spec.Watch["proxy"] = running.PIDs
	}
	before, err := asked(ctx, running)
	if err != nil {
		return nil, err
	}
	finish := func() error { return nil }
	if running.Profile {
		finish = r.profile(ctx, r.scenario)
	}
	res, err := r.Load(ctx, spec)
	if err := errors.Join(err, finish()); err != nil {
		return nil, err
	}
	after, err := asked(ctx, running)
	if err != nil {
		return nil, err
	}
	t, err := digest(spec, res)
	if err != nil {
		return nil, err
	}
	if before.known && after.known {
		// What asking itself costs is known from before.
		mallocs := max(0, after.first.mallocs-before.second.mallocs-(before.second.mallocs-before.first.mallocs))
		t.Values[result.Mallocs] = mallocs
		t.Values[result.GCCycles] = after.first.gcs - before.second.gcs
		t.Values[result.MallocsPerOp] = mallocs / float64(max(res.AllOps, fewest(spec)))
	}
	return t, nil
}

// fewest is over how many operations allocations are judged: dozens that a
// process makes once say nothing about each of a few thousand messages.
func fewest(spec load.Spec) uint64 {
	if spec.Kind == load.Connects {
		return 20_000
	}
	return 100_000
}

// digest turns the client's counts into metrics.
func digest(spec load.Spec, res *load.Result) (*Turn, error) {
	window := res.Elapsed.Seconds()
	v := map[string]float64{
		result.ClientCPU: res.CPU["client"].Seconds() / window,
		result.SinkCPU:   res.CPU["sink"].Seconds() / window,
	}
	if spec.Kind == load.Bulk {
		v[result.Throughput] = float64(res.Bytes) / window
	} else {
		v[result.Rate] = float64(res.Ops) / window
		if spec.Size >= 1<<10 {
			v[result.Throughput] = float64(res.Bytes) / window // of both directions
		}
	}
	if proxy, ok := res.CPU["proxy"]; ok {
		v[result.ProxyCPU] = proxy.Seconds() / window
		if spec.Kind == load.Bulk {
			v[result.CPUPerGB] = proxy.Seconds() / (float64(res.Bytes) / 1e9)
		} else {
			v[result.CPUPerOp] = float64(proxy.Microseconds()) / float64(res.Ops)
		}
	}
	t := &Turn{Values: v}
	h, err := res.Histogram()
	if err != nil {
		return nil, err
	}
	if h != nil {
		t.Curves = map[string]*hdrhistogram.Histogram{"": h}
		for name, q := range map[string]float64{result.P50: 50, result.P90: 90, result.P99: 99, result.P999: 99.9} {
			v[name] = float64(h.ValueAtQuantile(q)) / 1e3
		}
	}
	return t, nil
}

// cost is what a process has allocated so far.
type cost struct{ mallocs, gcs float64 }

// answers are two readings of a peer's counters, one right after the other: the
// first costs allocations of its own, which the second shows.
type answers struct {
	known         bool
	first, second cost
}

// asked reads the counters of a peer that has some.
func asked(ctx context.Context, running *peer.Running) (answers, error) {
	if running.Counters == nil {
		return answers{}, nil
	}
	var a answers
	for _, c := range []*cost{&a.first, &a.second} {
		values, err := running.Counters(ctx)
		if err != nil {
			return answers{}, err
		}
		mallocs, ok := values["mallocs"]
		if !ok {
			return answers{}, nil
		}
		*c = cost{mallocs, values["gc_cycles"]}
		a.known = true
	}
	return a, nil
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
