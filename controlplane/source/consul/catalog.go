package consul

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// catalog is the services that ask for a listener, with the tags of each.
type catalog = map[string][]string

// askCatalog reads the catalog. One that has nothing for dill is looked into
// before it is believed.
func (s *session) askCatalog(ctx context.Context, q query) (catalog, reply, error) {
	q.filter = tagged
	services, r, err := s.c.services(ctx, q)
	if err != nil {
		return nil, r, err
	}
	found := asking(services)
	if len(found) > 0 {
		s.belied.Store(false)
		return found, r, nil
	}
	if r.filtered || r.denying {
		if err := s.c.diagnose(ctx); err != nil {
			if !s.gone(ctx) {
				return nil, r, err
			}
			r.filtered = false
		}
	}
	if s.known.Load() > 0 {
		again, _, err := s.c.services(ctx, query{consistent: true, filter: tagged})
		if err != nil {
			return nil, r, err
		}
		if found = asking(again); len(found) > 0 && !s.belied.Swap(true) {
			s.src.log.Warn("consul said that no service is left, which a consistent read denies: not believed", keyServices, len(found))
		}
	}
	return found, r, nil
}

// gone tells whether a catalog in which nothing is visible is nevertheless true,
// because the token is for some services only and Consul, asked for each that
// was there, says without hiding anything that it has no instance. It is false
// where nothing was seen to go: then it is more likely that rights lack.
func (s *session) gone(ctx context.Context) bool {
	if s.token == "" {
		return false // Consul does not mark what it hides from strangers
	}
	known := *s.src.known.Load()
	for _, k := range known {
		answer, r, err := s.askService(ctx, k.Name, query{consistent: true})
		if err != nil || r.filtered || !answer.none {
			return false
		}
	}
	if len(known) > 0 {
		s.emptied.Store(true)
	}
	return s.emptied.Load()
}

// catalogRead takes an answer of the catalog's watch.
func (s *session) catalogRead(a answer[catalog]) {
	now, v := time.Now(), s.view
	if a.err != nil {
		s.catalogErr = a.err
		v.fail(a.err, now)
		s.crowdedBy(a.err)
		return
	}
	v.contact = now
	s.denying = a.denying
	s.catalogErr = nil
	if a.lag > maxLag {
		s.catalogErr = fmt.Errorf("the consul server that answers has not heard from a leader for %v", a.lag.Round(time.Second))
	}
	if a.back || a.index < v.index {
		s.historyWentBack(now)
	}
	moved := a.index != v.index
	if moved && s.moved.IsZero() {
		s.moved = now
	}
	v.index = a.index
	first := !s.begun
	if first {
		s.begin(a.http2)
	}
	if a.filtered && !v.hidden {
		v.hidden = true
		s.src.log.Info("ACLs hide services from the token", keyServices, len(a.value))
	}
	if !s.reconcile(a.value, a.filtered, first) && moved {
		s.riddle.add(a.index, now)
	}
}

// begin takes up work once it is known how Consul answers.
func (s *session) begin(http2 bool) {
	s.begun = true
	s.works.Store(true)
	s.budget = s.src.cfg.MaxConnections - s.src.cfg.unwatched() - 2 // the catalog's and the hint's
	if http2 {
		s.budget *= streams
	}
}

// reconcile makes the view's services those of the catalog, and reports whether
// that is a change.
func (s *session) reconcile(listed catalog, filtered, first bool) (changed bool) {
	v := s.view
	for name, t := range v.services {
		switch _, ok := listed[name]; {
		case ok:
		case !filtered:
			s.drop(t)
			changed = true
		case !t.doubted:
			// It may be gone, or hidden; its own answer tells. If it is not
			// hidden, it comes unfiltered.
			t.doubted = true
			if first {
				s.enlist(t)
			}
			s.want(t)
		}
	}
	// In the order of names, so that a restart picks the same for its watches.
	for _, name := range sortedNames(listed) {
		tags := listed[name]
		t, known := v.services[name]
		if !known {
			t = &tracked{name: name}
			v.services[name] = t
		}
		same := known && slices.Equal(t.tags, tags)
		switch {
		case !known || first:
			s.enlist(t)
		case !same && t.stop == nil:
			s.want(t)
		}
		changed = changed || !same
		t.tags, t.doubted = tags, false
	}
	s.balance()
	return changed
}

// historyWentBack takes note that what was known may come from another history
// than what comes next.
func (s *session) historyWentBack(now time.Time) {
	s.view.distrust(now)
	for _, t := range s.view.services {
		t.index = 0
		if t.stop == nil && t.settled {
			s.want(t)
		}
	}
}

func sortedNames(c catalog) []string {
	names := make([]string, 0, len(c))
	for name := range c {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
