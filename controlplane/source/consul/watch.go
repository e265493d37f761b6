package consul

import (
	"context"
	"math/rand/v2"
	"time"
)

// answer is what a blocking query came back with.
type answer[T any] struct {
	value T
	reply
	back bool  // history went back
	err  error // value is nothing then
}

// watch asks for one thing again and again, each time waiting for it to change,
// until ctx ends or the connection breaks, which ends the session. tell gets
// every answer, on the session's own goroutine; what came back without a
// change may still differ, because rights may have. What failed before is asked
// again within share, if that is not nil.
func watch[T any](s *session, ctx context.Context, share chan struct{}, rest func(now time.Time) time.Duration,
	ask func(context.Context, query) (T, reply, error), tell func(answer[T])) {
	var (
		at     cursor
		failed backoff
		idle   backoff
	)
	for {
		waited, began := at.wait, time.Now()
		// One that answers at once is not what the budget is for.
		release := func() {}
		if waited == 0 {
			var ok bool
			if release, ok = s.turn(ctx, share, failed.failures > 0); !ok {
				return
			}
		}
		value, r, err := ask(ctx, query{index: waited})
		release()
		switch {
		case ctx.Err() != nil:
			return
		case s.breaks(err):
			return
		}
		a := answer[T]{value: value, reply: r, err: err}
		if err == nil {
			a.back = at.advance(r.index)
		}
		if !s.post(ctx, func() { tell(a) }) {
			return
		}
		now := time.Now()
		var gap time.Duration
		switch {
		case err != nil:
			// What changed meanwhile is not known, so the next one must not wait.
			at.forget()
			gap = failed.next()
		case waited == 0:
			failed.reset()
		case r.index != waited:
			s.src.counters.wakeUps.Add(1)
			idle.reset()
			gap = rest(now)
			if a.back {
				gap += rand.N(maxPause / 4) // everybody else was told, too
			}
		case now.Sub(began) < s.src.cfg.Wait:
			// It had nothing to say and did not wait, either. That is how
			// servers let go of everybody when they are restored from a
			// snapshot; to wait on would be to wait for the old index to
			// come again.
			at.forget()
			gap = idle.next()
		default:
			idle.reset()
		}
		if !pause(ctx, gap) {
			return
		}
	}
}

// turn waits for a slot, and before that, for what failed before, for a place in
// share: however many services Consul does not answer for, the others have their
// turn. It returns how to give both back, and false when ctx ended first.
func (s *session) turn(ctx context.Context, share chan struct{}, failed bool) (release func(), ok bool) {
	if !failed || share == nil {
		return func() { <-s.slots }, acquire(ctx, s.slots)
	}
	if !acquire(ctx, share) {
		return nil, false
	}
	if !acquire(ctx, s.slots) {
		<-share
		return nil, false
	}
	return func() { <-s.slots; <-share }, true
}
