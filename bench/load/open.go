package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"dill/bench/internal/sock"
)

// runOpen sends requests at random moments (a Poisson process of spec.Rate)
// that do not depend on the answers. A request that finds no free connection
// waits its turn, and its latency counts from the moment it was due: a proxy
// that stops for a second shows a second for every request of that second,
// where a client that waits for answers would show one slow request
// (coordinated omission).
func runOpen(ctx context.Context, spec Spec) (*Result, error) {
	if spec.Rate <= 0 {
		return nil, fmt.Errorf("a rate of %v requests a second", spec.Rate)
	}
	poll, err := sock.NewPoller()
	if err != nil {
		return nil, err
	}
	defer poll.Close()
	all, err := openExchanges(poll, spec)
	if err != nil {
		return nil, err
	}
	defer closeExchanges(all)

	w := newWindow(spec)
	o := opener{free: make([]*exchange, 0, len(all)), due: make([]time.Time, 0, 1<<16)}
	o.free = append(o.free, all...)
	random := rand.New(rand.NewPCG(3, 4)) // the same moments for every proxy
	gap := func() time.Duration { return time.Duration(random.ExpFloat64() / spec.Rate * float64(time.Second)) }
	next := time.Now()
	lastAnswer := next
	for now := next; w.tick(now); now = time.Now() {
		for ; !next.After(now); next = next.Add(gap()) {
			if err := o.request(next); err != nil {
				return nil, err
			}
		}
		events, err := poll.WaitUntil(next)
		if err != nil {
			return nil, err
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		for _, ev := range events {
			x := all[ev.Fd]
			done, err := x.progress()
			if done {
				lastAnswer = time.Now()
				w.record(lastAnswer.Sub(x.since))
				err = o.release(x)
			}
			if err != nil {
				return nil, fmt.Errorf("connection %d, request %d: %w", ev.Fd, x.seq, err)
			}
		}
		if len(o.free) < len(all) && time.Since(lastAnswer) > spec.Patience {
			return nil, fmt.Errorf("no answer for %v", spec.Patience)
		}
	}
	if n := len(o.due) - o.head; w.err == nil && float64(n) > spec.Rate {
		return nil, fmt.Errorf("%d requests were still waiting to be sent: that is no %g requests a second", n, spec.Rate)
	}
	return w.result, w.err
}

// opener gives requests that are due to connections that are free.
type opener struct {
	free []*exchange
	due  []time.Time // a queue that begins at head
	head int
}

func (o *opener) request(due time.Time) error {
	if n := len(o.free); n > 0 {
		x := o.free[n-1]
		o.free = o.free[:n-1]
		return x.send(due)
	}
	o.due = append(o.due, due)
	return nil
}

// release has x do the oldest request that waits, if there is one.
func (o *opener) release(x *exchange) error {
	if o.head == len(o.due) {
		o.due, o.head = o.due[:0], 0
		o.free = append(o.free, x)
		return nil
	}
	due := o.due[o.head]
	o.head++
	return x.send(due)
}
