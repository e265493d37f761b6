package nomad

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

const (
	backoffFirst = 100 * time.Millisecond
	backoffMost  = 3 * time.Second

	// A loop that is woken more often than burst times and then rate times
	// a second is slowed down, by at most spacing.
	rate    = 20
	burst   = 20
	spacing = 250 * time.Millisecond

	// followEvery is how often a service beyond the watched ones is read.
	followEvery = time.Second
)

// cursor follows the index of a query's answers.
type cursor struct {
	index uint64 // to wait on; 0 = read at once
	seen  uint64 // the newest answer's
}

// took notes an answer's index, and reports whether it went back.
func (c *cursor) took(index uint64) (back bool) {
	back = index < c.seen
	c.index, c.seen = index, index
	return back
}

// pacer slows down a loop that is woken all the time.
type pacer struct {
	tokens float64 // spent beyond burst if negative
	at     time.Time
}

// wait takes note of a wake-up and returns how long to wait before the next.
func (p *pacer) wait() time.Duration {
	now := time.Now()
	if p.at.IsZero() {
		p.tokens = burst
	}
	p.tokens = min(burst, p.tokens+now.Sub(p.at).Seconds()*rate)
	p.at = now
	p.tokens--
	if p.tokens >= 0 {
		return 0
	}
	return min(spacing, time.Duration(-p.tokens*float64(time.Second/rate)))
}

// turn says how the next query is to be made: it may wait, and tells whether
// the query may block. false for go on ends the loop.
type turn func(ctx context.Context) (block, goOn bool)

// watch asks q for ever and reports each answer, or why there is none. It
// returns when ctx ends.
func watch[T any](ctx context.Context, c *client, q query, next turn, report func(list []T, why doubt, err error)) {
	var (
		at       cursor
		pace     pacer
		failures int
		why      doubt
	)
	for {
		block, goOn := next(ctx)
		if !goOn {
			return
		}
		q.index = 0
		if block {
			q.index = at.index
		}
		var list []T
		m, err := get(ctx, c, q, &list)
		switch {
		case ctx.Err() != nil:
			return
		case isDropped(err):
			at.index = 0
			report(nil, "", err)
			continue
		case err != nil:
			at.index = 0 // the server may be another one next time
			failures++
			report(nil, "", err)
			if !pause(ctx, backoff(failures)) {
				return
			}
			continue
		}
		failures = 0
		if at.took(m.index) {
			why = wentBack
			if q.index > 0 {
				// Woken along with every other query: spread the re-reads.
				at.index = 0
				if !pause(ctx, rand.N(backoffFirst)) {
					return
				}
				continue
			}
		}
		if m.leaderless && why == "" {
			why = leaderless
		}
		report(list, why, nil)
		why = ""
		if !pause(ctx, pace.wait()) {
			return
		}
	}
}

func isDropped(err error) bool {
	_, is := errors.AsType[droppedError](err)
	return is
}

// backoff returns the pause after so many failures in a row.
func backoff(failures int) time.Duration {
	d := min(backoffMost, backoffFirst<<min(failures-1, 10))
	return d/2 + rand.N(d/2)
}

// pause waits for d, and returns false if ctx ends before.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
