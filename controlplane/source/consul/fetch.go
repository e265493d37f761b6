package consul

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// want asks for a service to be fetched.
func (s *session) want(t *tracked) {
	if !t.queued {
		t.queued = true
		s.queue = append(s.queue, t)
	}
}

// dispatch starts the fetches that may start now, and returns when the next
// one may.
func (s *session) dispatch(now time.Time) (next time.Time) {
	rest := s.queue[:0]
	for _, t := range s.queue {
		switch {
		case s.view.services[t.name] != t:
		case t.flying, s.flying >= fetchers, t.err != nil && s.retrying >= cap(s.retries):
			rest = append(rest, t)
		case t.stop == nil && !s.hintKnown:
			// What changes after the fetch must be seen by the hint.
			rest = append(rest, t)
		case now.Before(t.due):
			next = earliest(next, t.due)
			rest = append(rest, t)
		default:
			s.fetch(t, now)
		}
	}
	clear(s.queue[len(rest):])
	s.queue = rest
	return next
}

// fetch reads a service once, without waiting for a change.
func (s *session) fetch(t *tracked, now time.Time) {
	t.queued, t.flying = false, true
	t.due = now.Add(maxPause) // what changes until then is one more fetch
	s.flying++
	again := t.err != nil
	if again {
		s.retrying++
	}
	q, from := query{}, fetched
	if !t.empty.IsZero() {
		q.consistent, from = true, confirmed
	}
	s.work.Go(func() {
		if !acquire(s.ctx, s.slots) {
			return
		}
		value, r, err := s.askService(s.ctx, t.name, q)
		<-s.slots
		if s.ctx.Err() != nil {
			return
		}
		if s.breaks(err) {
			return
		}
		s.post(s.ctx, func() {
			t.flying = false
			s.flying--
			if again {
				s.retrying--
			}
			s.serviceRead(t, answer[reading]{value: value, reply: r, err: err}, from)
		})
	})
}

// watchHint watches all checks, for the names of services to fetch.
func (s *session) watchHint() {
	ctx, stop := context.WithCancel(s.ctx)
	s.hintStop = stop
	// Both are owned by the watch.
	var seen ledger
	var cost time.Duration // of reading all checks
	s.work.Go(func() {
		watch(s, ctx, nil,
			// Where that is a lot of work, it is done less often.
			func(time.Time) time.Duration { return max(maxPause, min(4*cost, time.Second)) },
			func(ctx context.Context, q query) (hint, reply, error) {
				checks, r, err := s.c.checks(ctx, q)
				if err != nil {
					return hint{}, r, s.alone(ctx, q, err)
				}
				h := seen.update(checks)
				cost = time.Since(r.began)
				return h, r, nil
			},
			func(a answer[hint]) {
				if ctx.Err() == nil {
					s.hinted(a)
				}
			})
	})
}

// hinted takes what the checks say. Without them the tier is still read, but
// each service in it is stale.
func (s *session) hinted(a answer[hint]) {
	s.hintKnown = true
	if (s.view.hintErr == nil) != (a.err == nil) {
		s.view.dirty = true
	}
	s.view.hintErr = a.err
	if a.err != nil {
		s.view.stale.say(time.Now(), fmt.Errorf("checks: %w", plain(a.err)), keyServices, s.beyond)
		s.crowdedBy(a.err)
		return
	}
	if a.back {
		s.historyWentBack(time.Now())
	}
	for name, index := range a.value.services {
		if t := s.view.services[name]; t != nil && t.stop == nil && index > t.index {
			s.want(t)
		}
	}
	for node, index := range a.value.nodes {
		for _, t := range s.view.services {
			if t.stop == nil && index > t.index && t.isOn(node) {
				s.want(t)
			}
		}
	}
}

// isOn tells whether an instance of the service is on node.
func (t *tracked) isOn(node string) bool {
	for _, inst := range t.last.Instances {
		if strings.HasPrefix(inst.ID, instanceID(node, "")) {
			return true
		}
	}
	return false
}

// sweepIfDue starts a sweep if the catalog changed and the last one is long
// enough ago; otherwise it returns when that will be so.
func (s *session) sweepIfDue(now time.Time) (next time.Time) {
	if s.beyond == 0 {
		s.moved, s.riddle = time.Time{}, riddle{}
		return time.Time{}
	}
	if s.moved.IsZero() || s.sweeping {
		return time.Time{}
	}
	due := later(s.moved.Add(maxPause), s.swept.Add(sweepGap))
	if !s.riddle.since.IsZero() && !now.Before(s.manyNodes) {
		soon := s.pace.due(s.riddle, s.swept)
		if now.Before(soon) || !s.riddle.solve(s.view.services) {
			due = earliest(due, soon)
		}
	}
	if now.Before(due) {
		return due
	}
	s.moved, s.riddle, s.swept = time.Time{}, riddle{}, now
	if now.Before(s.manyNodes) {
		s.wantBeyond(nil)
		return time.Time{}
	}
	s.sweeping = true
	most := s.beyond
	s.work.Go(func() {
		found, requests, err := s.c.sweep(s.ctx, most, s.slots)
		if s.ctx.Err() != nil {
			return
		}
		if err = s.alone(s.ctx, query{}, err); s.breaks(err) {
			return
		}
		s.post(s.ctx, func() {
			s.sweeping = false
			s.swept = time.Now()
			if errors.Is(err, errTooManyNodes) {
				s.manyNodes = s.swept.Add(manyNodesFor)
			}
			if err != nil {
				s.pace.failed()
				s.wantBeyond(nil)
				return
			}
			s.pace.swept(s.swept.Sub(now), requests, s.wantBeyond(found))
		})
	})
	return time.Time{}
}

// wantBeyond asks for the services of the tier that a sweep found outdated, or
// without one for all, and returns how many those are.
func (s *session) wantBeyond(found inventory) (n int) {
	for _, t := range s.view.services {
		if t.stop == nil && (found == nil || found.outdated(t)) {
			s.want(t)
			n++
		}
	}
	return n
}
