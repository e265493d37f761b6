package scenario

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"dill/bench/load"
	"dill/bench/peer"
	"dill/bench/proc"
	"dill/bench/result"
)

// listeners is dill with many ports: what they cost, how soon they are open,
// and whether the traffic of one of them suffers.
func listeners(n int) Scenario {
	return Scenario{
		Name: fmt.Sprintf("listeners%d", n), Title: fmt.Sprintf("%s from a routing file", plural(n, "listener")), Pairs: 3,
		Peers: []string{"dill"},
		Show:  []string{result.AllOpen, result.RSSOverEmpty, result.RSS, result.Rate, result.P99},
		Measure: func(ctx context.Context, r *Rig, _ peer.Peer) (*Turn, error) {
			return r.listeners(ctx, n)
		},
		Length: func(r *Rig) time.Duration { return 3*time.Second + r.Warmup + r.Duration },
	}
}

// memorySettles is how long dill is left alone before its memory is read.
const memorySettles = time.Second

func (r *Rig) listeners(ctx context.Context, n int) (*Turn, error) {
	f, err := r.startWithFile(ctx, n, peer.Routes())
	if err != nil {
		return nil, err
	}
	defer f.stop()
	if err := pause(ctx, memorySettles); err != nil {
		return nil, err
	}
	empty, err := proc.RSS(f.PID())
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := f.write(peer.Routes(f.services(n, r.Backends)...)); err != nil {
		return nil, err
	}
	if err := f.open(ctx, n); err != nil {
		return nil, err
	}
	took := time.Since(began)
	if err := pause(ctx, memorySettles); err != nil {
		return nil, err
	}
	full, err := proc.RSS(f.PID())
	if err != nil {
		return nil, err
	}
	if err := f.probe(ctx, n); err != nil {
		return nil, err
	}
	t, err := r.through(ctx, f.running(), load.Spec{Kind: load.Requests, Conns: 64, Size: 64})
	if err != nil {
		return nil, err
	}
	t.Values[result.RSS] = float64(full)
	t.Values[result.RSSOverEmpty] = float64(full - empty)
	t.Values[result.AllOpen] = took.Seconds()
	return t, nil
}

// fileDill is a dill with a routing file.
type fileDill struct {
	*proc.Child
	at       peer.Site
	path     string
	counters func(context.Context) (map[string]float64, error)
	stop     func()
}

// startWithFile starts dill with a routing file and n ports set aside for it,
// and returns when it has read the file, which is when the routes are served or,
// when there are none, after a moment.
func (r *Rig) startWithFile(ctx context.Context, n int, routes []byte) (*fileDill, error) {
	at, cleanup, err := r.site(n, nil)
	if err != nil {
		return nil, err
	}
	f := &fileDill{at: at, path: filepath.Join(at.Dir, "routes.json")}
	if err := f.write(routes); err != nil {
		cleanup()
		return nil, err
	}
	if f.Child, f.counters, err = r.Dill.Launch(at, r.Dill.FileEnv(at)); err != nil {
		cleanup()
		return nil, err
	}
	f.stop = func() { f.Child.Stop(5 * time.Second); cleanup() }
	return f, nil
}

// running is f as a peer; clients use its first port.
func (f *fileDill) running() *peer.Running {
	return &peer.Running{Targets: []netip.AddrPort{f.at.Listen}, PIDs: []int{f.PID()}, Child: f.Child, Profile: true, Counters: f.counters}
}

// write replaces the routing file as a whole.
func (f *fileDill) write(routes []byte) error {
	part := f.path + ".part"
	if err := os.WriteFile(part, routes, 0o644); err != nil {
		return err
	}
	return os.Rename(part, f.path)
}

// port is f's i-th listener.
func (f *fileDill) port(i int) netip.AddrPort {
	return netip.AddrPortFrom(f.at.Listen.Addr(), f.at.Listen.Port()+uint16(i))
}

// services are n services, one for each port, all with these backends.
func (f *fileDill) services(n int, backends []netip.AddrPort) []peer.Service {
	all := make([]peer.Service, n)
	for i := range all {
		all[i] = peer.Service{Name: fmt.Sprintf("s%d", i), Listen: f.port(i), Backends: backends}
	}
	return all
}

// open waits until dill listens at the first n ports.
func (f *fileDill) open(ctx context.Context, n int) error {
	return allOpen(ctx, f.Child, f.at.Listen.Port(), n)
}

// allOpen waits until c listens at n ports from first on.
func allOpen(ctx context.Context, c *proc.Child, first uint16, n int) error {
	var err error
	open := 0
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, fmt.Errorf("not all of %d ports open after a minute", n))
	defer cancel()
	ended := c.Poll(ctx, 5*time.Millisecond, func() bool {
		var ports map[uint16]bool
		if ports, err = proc.Listening(); err != nil {
			return true
		}
		open = 0
		for i := range n {
			if ports[first+uint16(i)] {
				open++
			}
		}
		return open == n
	})
	if ended != nil {
		return fmt.Errorf("%d ports open: %w", open, ended)
	}
	return err
}

// probe sends a request through each of the first n ports.
func (f *fileDill) probe(ctx context.Context, n int) error {
	for i := range n {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := load.Probe(f.port(i), 5*time.Second); err != nil {
			return fmt.Errorf("listener %d of %d: %w", i, n, err)
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
