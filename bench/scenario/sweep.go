package scenario

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dill/bench/load"
	"dill/bench/peer"
	"dill/bench/result"
)

// size is request/response with larger messages, eight at a time: how the
// relay does between ping-pong and bulk.
func size(bytes int) Scenario {
	name := fmt.Sprintf("size%d", bytes)
	if bytes >= 1<<20 {
		name = fmt.Sprintf("size%dM", bytes>>20)
	} else if bytes >= 1<<10 {
		name = fmt.Sprintf("size%dK", bytes>>10)
	}
	s := traffic(Scenario{
		Name: name, Title: fmt.Sprintf("messages of %s, 8 connections", name[len("size"):]), Pairs: 3,
		Peers: []string{"direct", "dill"},
		Show:  []string{result.Rate, result.Throughput, result.P50, result.P99, result.CPUPerOp},
	}, load.Spec{Kind: load.Requests, Conns: 8, Size: bytes}, false)
	return s
}

// procs is dill under different runtime.gomaxprocs.
func procs(name, title string, spec load.Spec) Scenario {
	show := []string{result.Rate, result.P50, result.P99, result.P999, result.CPUPerOp}
	if spec.Kind == load.Bulk {
		show = []string{result.Throughput, result.CPUPerGB, result.ProxyCPU}
	}
	s := traffic(Scenario{
		Name: name, Title: "runtime.gomaxprocs: " + title, Pairs: 3, Show: show,
		Variants: func(r *Rig) []peer.Peer {
			var all []peer.Peer
			for _, n := range []int{1, 2, 3, 4} {
				all = append(all, r.Dill.With(fmt.Sprintf("procs=%d", n), fmt.Sprintf("DILL_RUNTIME_GOMAXPROCS=%d", n)))
			}
			return all
		},
	}, spec, false)
	return s
}

// latency is the open loop: requests come at half the rate that the slowest
// peer can do, whether or not the answers keep up.
func latency(name string) Scenario {
	spec := load.Spec{Kind: load.Open, Conns: 64, Size: 64}
	s := Scenario{
		Name: name, Title: "latency at half of the slowest peer's capacity, open loop, 64 connections, 64 B", Pairs: 3,
		Show: []string{result.P50, result.P90, result.P99, result.P999, result.Rate, result.ProxyCPU},
		Prepare: func(ctx context.Context, r *Rig, peers []peer.Peer) (string, error) {
			return r.findRate(ctx, peers)
		},
	}
	s.Measure = func(ctx context.Context, r *Rig, p peer.Peer) (*Turn, error) {
		if r.rate == 0 {
			return nil, errors.New("no peer's capacity is known")
		}
		spec.Rate = r.rate
		return r.send(ctx, p, nil, spec)
	}
	s.Length = func(r *Rig) time.Duration { return r.Warmup + r.Duration + 500*time.Millisecond }
	return s
}

// findRate measures every proxy's capacity for a moment.
func (r *Rig) findRate(ctx context.Context, peers []peer.Peer) (note string, err error) {
	slowest, whose := 0.0, ""
	for _, p := range peers {
		if p.Name() == "direct" {
			continue
		}
		t, err := r.send(ctx, p, nil, load.Spec{Kind: load.Requests, Conns: 64, Size: 64})
		if err != nil {
			return "", fmt.Errorf("capacity of %s: %w", p.Name(), err)
		}
		if v := t.Values[result.Rate]; slowest == 0 || v < slowest {
			slowest, whose = v, p.Name()
		}
	}
	r.rate = slowest / 2
	return fmt.Sprintf("%.0f requests a second, half of what %s does", r.rate, whose), nil
}
