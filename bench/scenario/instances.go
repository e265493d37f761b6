package scenario

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"dill/bench/peer"
	"dill/bench/result"
)

// instances is how soon a new instance of a service that is served already gets
// a connection, where there are so many services that dill cannot watch each.
func instances(n int) Scenario {
	return Scenario{
		Name: fmt.Sprintf("instance%d", n), Title: fmt.Sprintf("new instance of one of %d services, to its first connection", n), Pairs: 3,
		Peers: []string{"dill"},
		Show:  []string{result.OpenP50, result.OpenP99},
		Measure: func(ctx context.Context, r *Rig, _ peer.Peer) (*Turn, error) {
			return r.instances(ctx, n)
		},
		Length: func(r *Rig) time.Duration {
			return time.Duration(r.registrations())*(2*apart+200*time.Millisecond) + 2*time.Second
		},
	}
}

func (r *Rig) instances(ctx context.Context, n int) (*Turn, error) {
	c, err := r.crowdOf(ctx, n)
	if err != nil {
		return nil, err
	}
	at, cleanup, err := r.site(1, nil)
	if err != nil {
		return nil, err
	}
	defer cleanup()
	child, _, err := r.Dill.Launch(at, append(c.Env(), r.Dill.Env...))
	if err != nil {
		return nil, err
	}
	defer child.Stop(5 * time.Second)
	if err := allOpen(ctx, child, c.first, n); err != nil {
		return nil, err
	}
	w, err := newWitness()
	if err != nil {
		return nil, err
	}
	defer w.close()

	t := &Turn{Values: map[string]float64{}, Curves: newCurves("open")}
	for range r.registrations() {
		if err := pause(ctx, apart+rand.N(apart)); err != nil {
			return nil, err
		}
		i := rand.IntN(n)
		w.forget()
		if err := c.Join(ctx, i, c.first+uint16(i), w.addr()); err != nil {
			return nil, err
		}
		joined := time.Now()
		service := netip.AddrPortFrom(at.Listen.Addr(), c.first+uint16(i))
		limit, cancel := context.WithTimeoutCause(ctx, 20*time.Second, errors.New("a new instance got no connection for 20 s"))
		err := child.Poll(limit, time.Millisecond, func() bool { return knock(service) == nil && !w.visited().IsZero() })
		cancel()
		if err != nil {
			return nil, err
		}
		_ = t.Curves["open"].RecordValue(max(1, int64(w.visited().Sub(joined))))
		if err := c.Leave(ctx, i); err != nil {
			return nil, err
		}
	}
	t.Values[result.OpenP50] = float64(t.Curves["open"].ValueAtQuantile(50)) / 1e6
	t.Values[result.OpenP99] = float64(t.Curves["open"].ValueAtQuantile(99)) / 1e6
	return t, nil
}

// knock opens a connection and closes it. Which backend that reaches is the
// proxy's choice.
func knock(addr netip.AddrPort) error {
	conn, err := net.DialTimeout("tcp4", addr.String(), time.Second)
	if err != nil {
		return err
	}
	return conn.Close()
}

// witness is a backend that only notes when somebody came.
type witness struct {
	ln   net.Listener
	done sync.WaitGroup

	mu    sync.Mutex
	first time.Time // since forget; zero = nobody
}

func newWitness() (*witness, error) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w := &witness{ln: ln}
	w.done.Go(w.accept)
	return w, nil
}

// accept closes every connection that comes, until close.
func (w *witness) accept() {
	for {
		conn, err := w.ln.Accept()
		if err != nil {
			return
		}
		w.mu.Lock()
		if w.first.IsZero() {
			w.first = time.Now()
		}
		w.mu.Unlock()
		conn.Close()
	}
}

func (w *witness) addr() netip.AddrPort { return w.ln.Addr().(*net.TCPAddr).AddrPort() }

func (w *witness) visited() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.first
}

func (w *witness) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.first = time.Time{}
}

func (w *witness) close() {
	w.ln.Close()
	w.done.Wait()
}
