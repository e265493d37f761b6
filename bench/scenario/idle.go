package scenario

import (
	"context"
	"fmt"
	"time"

	"dill/bench/load"
	"dill/bench/peer"
	"dill/bench/result"
)

// moved is how many bytes each connection moves before it is left idle, half
// of them in each direction: enough that a proxy that gives a connection large
// buffers, or a pipe, has done so.
const moved = 1_000_000

// idle is what a proxy holds for a connection that is open and silent. It is
// the slope between two numbers of connections, so that what the process needs
// anyway does not count.
func idle(name string) Scenario {
	return Scenario{
		Name: name, Title: "memory and descriptors of an idle connection that has moved 1 MB", Pairs: 3,
		Peers: []string{"haproxy", "dill", "nginx", "go"},
		Show:  []string{result.BytesPerConn, result.FilesPerConn, result.RSS},
		Measure: func(ctx context.Context, r *Rig, p peer.Peer) (*Turn, error) {
			return r.idle(ctx, p)
		},
		Length: func(r *Rig) time.Duration {
			if r.Quick {
				return 2 * time.Second
			}
			return 15 * time.Second
		},
	}
}

// filesEach is at most how many descriptors a peer holds for a connection:
// two, and with goroutines that splice four more for pipes.
var filesEach = map[string]int{"go": 6}

// stages returns between which numbers of connections the slope is taken:
// 1,000 and 8,000, or as far as the limit of open files goes.
func (r *Rig) stages(p peer.Peer) (from, to int) {
	from, to = 1000, 8000
	if r.Quick {
		from, to = 200, 1000
	}
	each := 2
	if n, ok := filesEach[p.Name()]; ok {
		each = n
	}
	const others = 2000 // of HAProxy's pipes, listeners, and what it keeps back
	if most := (peer.OpenFiles() - others) / each; to > most {
		from, to = min(from, most/4), most
	}
	return from, to
}

func (r *Rig) idle(ctx context.Context, p peer.Peer) (*Turn, error) {
	from, to := r.stages(p)
	if to-from < 100 {
		return nil, fmt.Errorf("%w: the limit of open files (%d) allows too few connections", ErrSkip, peer.OpenFiles())
	}
	running, stop, err := r.start(ctx, p, nil)
	if err != nil {
		return nil, err
	}
	defer stop()
	settle := 2 * time.Second
	if r.Quick {
		settle = 300 * time.Millisecond
	}
	res, err := r.Load(ctx, load.Spec{
		Kind: load.Idle, Settle: settle, Targets: running.Targets, Stages: []int{from, to}, Moved: moved,
		Watch: map[string][]int{"proxy": running.PIDs},
	})
	if err != nil {
		return nil, err
	}
	a, b := res.Stages[0], res.Stages[1]
	conns := float64(b.Conns - a.Conns)
	return &Turn{Values: map[string]float64{
		result.BytesPerConn: float64(b.RSS-a.RSS) / conns,
		result.FilesPerConn: float64(b.Files-a.Files) / conns,
		result.RSS:          float64(b.RSS),
	}}, nil
}
