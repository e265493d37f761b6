package scenario

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"dill/bench/load"
	"dill/bench/peer"
	"dill/bench/result"
)

const (
	publishListeners = 2000
	publishBackends  = 10
	publishEvery     = 100 * time.Millisecond
)

// publish is what established traffic notices of a table that changes all the
// time: p99 of request/response while a routing file with 2,000 listeners × 10
// backends is replaced ten times a second, by p99 of the same dill at rest.
func publish(name string) Scenario {
	return Scenario{
		Name: name, Pairs: 5,
		Title: fmt.Sprintf("p99 while %d listeners × %d backends are published 10 times a second", publishListeners, publishBackends),
		Peers: []string{"dill"},
		Show:  []string{result.P99Slowdown, result.P99, result.P999, result.Rate, result.ProxyCPU},
		Measure: func(ctx context.Context, r *Rig, _ peer.Peer) (*Turn, error) {
			return r.publish(ctx)
		},
		Length: func(r *Rig) time.Duration { return 2*(r.Warmup+r.Duration) + 2*time.Second },
	}
}

func (r *Rig) publish(ctx context.Context) (*Turn, error) {
	f, err := r.startWithFile(ctx, publishListeners, peer.Routes())
	if err != nil {
		return nil, err
	}
	defer f.stop()
	// The first listener has the traffic; the backends of the others need not
	// exist.
	var nowhere []netip.AddrPort
	for i := range publishBackends {
		nowhere = append(nowhere, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 9, byte(1 + i)}), 9))
	}
	services := f.services(publishListeners, nowhere)
	services[0].Backends = r.Backends
	tables := [2][]byte{peer.Routes(services...)}
	services[1].Backends = nowhere[1:]
	tables[1] = peer.Routes(services...)

	if err := f.write(tables[0]); err != nil {
		return nil, err
	}
	if err := f.open(ctx, publishListeners); err != nil {
		return nil, err
	}
	spec := load.Spec{Kind: load.Requests, Conns: 64, Size: 64}
	rest, err := r.through(ctx, f.running(), spec)
	if err != nil {
		return nil, err
	}
	publishing, stop := context.WithCancel(ctx)
	defer stop()
	failed := make(chan error, 1)
	go func() { failed <- f.rewrite(publishing, tables) }()
	changing, err := r.through(ctx, f.running(), spec)
	stop()
	if e := <-failed; err == nil {
		err = e
	}
	if err != nil {
		return nil, err
	}
	changing.Values[result.P99Slowdown] = changing.Values[result.P99] / rest.Values[result.P99]
	return changing, nil
}

// rewrite replaces the routing file by the tables in turn until ctx ends.
func (f *fileDill) rewrite(ctx context.Context, tables [2][]byte) error {
	tick := time.NewTicker(publishEvery)
	defer tick.Stop()
	for i := 1; ; i++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := f.write(tables[i%2]); err != nil {
			return err
		}
	}
}
