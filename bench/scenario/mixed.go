package scenario

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"dill/bench/load"
	"dill/bench/peer"
	"dill/bench/result"
)

// head is how much earlier the bulk streams begin than the small messages
// beside them, and how much later they end: more than it takes to start a
// process.
const head = 300 * time.Millisecond

// mixed is one connection of small messages, with pauses, beside bulk streams:
// what a busy neighbour costs.
func mixed(streams int) Scenario {
	small := load.Spec{Kind: load.Requests, Conns: 1, Size: 64, Think: 2 * time.Millisecond}
	return Scenario{
		Name:  fmt.Sprintf("mixed%d", streams),
		Title: fmt.Sprintf("one small message every 2 ms beside %s", plural(streams, "bulk stream")),
		Show:  []string{result.P50, result.P90, result.P99, result.P999, result.Throughput, result.CPUPerGB},
		Measure: func(ctx context.Context, r *Rig, p peer.Peer) (*Turn, error) {
			return r.beside(ctx, p, small, load.Spec{Kind: load.Bulk, Conns: streams})
		},
		Length: func(r *Rig) time.Duration { return r.Warmup + r.Duration + 2*head + 500*time.Millisecond },
	}
}

// beside sends small through p while it moves bulk. The latencies are those of
// small, throughput and processor time those of bulk.
func (r *Rig) beside(ctx context.Context, p peer.Peer, small, bulk load.Spec) (*Turn, error) {
	running, stop, err := r.start(ctx, p, nil)
	if err != nil {
		return nil, err
	}
	defer stop()

	bulk.Targets, bulk.Warmup, bulk.Duration = running.Targets, r.Warmup, 2*head+r.Duration
	bulk.Watch = map[string][]int{"sink": {r.Sink.PID()}}
	if len(running.PIDs) > 0 {
		bulk.Watch["proxy"] = running.PIDs
	}
	small.Targets, small.Warmup, small.Duration = running.Targets, r.Warmup+head, r.Duration

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type outcome struct {
		*load.Result
		error
	}
	ended := make(chan outcome, 1)
	go func() {
		res, err := r.Load(ctx, bulk)
		ended <- outcome{res, err}
	}()
	res, err := r.Load(ctx, small)
	if err != nil {
		cancel()
		return nil, errors.Join(err, (<-ended).error)
	}
	select {
	case b := <-ended:
		return nil, errors.Join(errors.New("the bulk streams ended before the small messages"), b.error)
	default:
	}
	b := <-ended
	if b.error != nil {
		return nil, b.error
	}
	t, err := digest(small, res)
	if err != nil {
		return nil, err
	}
	streams, err := digest(bulk, b.Result)
	if err != nil {
		return nil, err
	}
	maps.Copy(t.Values, streams.Values)
	return t, nil
}
