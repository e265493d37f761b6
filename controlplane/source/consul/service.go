package consul

import (
	"context"
	"time"

	"dill/controlplane/source"
	"dill/controlplane/source/outgoing"
)

// reading is one answer about one service.
type reading struct {
	service source.Service
	none    bool // no instance at all, asking or not
}

// askService reads one service.
func (s *session) askService(ctx context.Context, name string, q query) (reading, reply, error) {
	entries, r, err := s.c.service(ctx, name, q)
	if err != nil {
		return reading{}, r, s.alone(ctx, q, err)
	}
	service, err := read(name, entries)
	return reading{service, len(entries) == 0}, r, err
}

// enlist takes a service into the session: with a watch of its own while the
// budget lasts, else into the tier beyond.
func (s *session) enlist(t *tracked) {
	t.enlisted = true
	s.unread++
	if s.direct < s.budget {
		s.watchService(t)
		return
	}
	s.beyond++
	s.want(t)
}

func (s *session) watchService(t *tracked) {
	s.direct++
	ctx, stop := context.WithCancel(s.ctx)
	t.stop = stop
	s.work.Go(func() {
		watch(s, ctx, s.retries, s.rest.wake,
			func(ctx context.Context, q query) (reading, reply, error) { return s.askService(ctx, t.name, q) },
			func(a answer[reading]) { s.serviceRead(t, a, watched) })
	})
}

// drop forgets a service.
func (s *session) drop(t *tracked) {
	delete(s.view.services, t.name)
	if len(t.last.Instances) > 0 {
		s.view.dirty = true
	}
	if !t.enlisted {
		return
	}
	if !t.settled {
		s.unread--
	}
	if t.stop != nil {
		t.stop()
		s.direct--
	} else {
		s.beyond--
	}
}

// balance gives watches that became free to services that have none, and holds
// the hint exactly as long as it is needed.
func (s *session) balance() {
	s.known.Store(int64(len(s.view.services)))
	for s.direct < s.budget && s.beyond > 0 {
		s.beyond--
		s.watchService(s.firstBeyond())
	}
	switch {
	case s.beyond > 0 && s.hintStop == nil:
		s.watchHint()
	case s.beyond == 0 && s.hintStop != nil:
		s.hintStop()
		s.hintStop, s.hintKnown, s.view.hintErr = nil, false, nil
	}
}

func (s *session) firstBeyond() *tracked {
	var first *tracked
	for _, t := range s.view.services {
		if t.stop == nil && (first == nil || t.name < first.name) {
			first = t
		}
	}
	return first
}

// origin is what kind of query an answer is to.
type origin int

const (
	watched   origin = iota // one that waited, or might have
	fetched                 // one that answered at once
	confirmed               // one that answered with the word of a quorum
)

// serviceRead takes an answer about a service.
func (s *session) serviceRead(t *tracked, a answer[reading], from origin) {
	if s.view.services[t.name] != t {
		return // dropped meanwhile
	}
	now := time.Now()
	if a.err != nil {
		s.settle(t, a.err, now)
		s.crowdedBy(a.err)
		if t.stop == nil { // nobody else asks again
			t.due = now.Add(t.retry.next())
			s.want(t)
		}
		return
	}
	s.view.contact = now
	if a.back {
		s.historyWentBack(now)
	}
	t.index = a.index
	t.retry.reset()
	switch fresh := a.value.service; {
	case a.filtered:
		// What is missing may be there; what is there counts.
		s.replace(t, union(t.last, fresh))
		s.settle(t, errHidden, now)
		return
	case from == watched && s.denying && lacks(fresh, t.last):
		// An answer that an agent streams is filtered without a word. The
		// one that is asked for now says whether it is good.
		s.replace(t, union(t.last, fresh))
		s.want(t)
		return
	case a.value.none && t.doubted:
		s.drop(t)
		s.balance()
		return
	case a.value.none && len(t.last.Instances) > 0 && from != confirmed:
		// When the last instance goes, so does the service from the catalog,
		// and that is what ends it. Otherwise it is one being replaced, or
		// Consul says nonsense: that is asked for, once it lasts.
		if t.empty.IsZero() {
			t.empty = now
		}
	default:
		t.empty = time.Time{}
		s.replace(t, fresh)
	}
	s.settle(t, nil, now)
}

// sameFailure tells whether two outcomes read the same.
func sameFailure(a, b error) bool {
	if a == nil || b == nil {
		return a == b
	}
	return plain(a).Error() == plain(b).Error()
}

func (s *session) replace(t *tracked, fresh source.Service) {
	if !t.last.Equal(fresh) {
		t.last = fresh
		s.view.dirty = true
	}
}

// settle records whether the last answer about a service was good.
func (s *session) settle(t *tracked, err error, now time.Time) {
	if !t.settled {
		t.settled = true
		s.unread--
	}
	if !sameFailure(t.err, err) {
		s.view.dirty = true // it turns stale, or current, or fails otherwise
	}
	t.err = err
	if err == nil {
		t.told, t.good = false, now
		return
	}
	if !t.told {
		s.view.stale.news()
	}
	args := []any{keyService, outgoing.Printable(t.name)}
	if !t.good.IsZero() {
		args = append(args, keySince, t.good)
	}
	t.told = s.view.stale.say(now, plain(err), args...) || t.told
}
