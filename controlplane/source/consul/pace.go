package consul

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// Up to freeRate wake-ups a second nobody waits. Above, each is followed by
	// a pause that grows with the rate, so that what changes during it comes in
	// one answer.
	freeRate = 20
	maxPause = 250 * time.Millisecond

	// quiet is the time over which wake-ups are counted: after that long
	// without any, the next are free again.
	quiet = time.Second
)

// pacer spaces the wake-ups of one kind. The change that causes a wake-up is
// never delayed, only the query after it.
type pacer struct {
	mu   sync.Mutex
	last [freeRate * 5]time.Time // the newest wake-ups, a ring; the rate at which the pause is longest
	n    int
}

// wake records a wake-up and returns how long to pause after it.
func (p *pacer) wake(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last[p.n%len(p.last)] = now
	p.n++
	rate := 0
	for _, at := range p.last {
		if now.Sub(at) < quiet {
			rate++
		}
	}
	if rate <= freeRate {
		return 0
	}
	return maxPause * time.Duration(rate) / time.Duration(len(p.last))
}

// backoff is the pause after a failure: longer with each, and never the same
// for all who wait.
type backoff struct{ failures int }

// With dialTimeout before it, the longest pause leaves no more than 5 s between
// a network that heals and the first answer.
const (
	firstBackoff = 100 * time.Millisecond
	maxBackoff   = 2500 * time.Millisecond
)

func (b *backoff) next() time.Duration {
	d := min(firstBackoff<<min(b.failures, 10), maxBackoff)
	b.failures++
	return d/2 + rand.N(d/2)
}

func (b *backoff) reset() { b.failures = 0 }

// pause waits for d or until ctx ends; it reports whether ctx has not ended.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
