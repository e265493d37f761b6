package publish

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"dill/controlplane/compile"
	"dill/controlplane/source"
	"dill/dataplane/route"
)

// Status is how things stand, as of one evaluation. It is immutable.
type Status struct {
	Table     *route.Table // never nil; generation 0 and empty before the first
	Sources   []SourceStatus
	Lingering map[netip.AddrPort]time.Time // listeners on their last set, and until when
	Waiting   map[netip.AddrPort]Wait      // listeners that wait for host names
	Idle      []compile.Idle               // listeners that are not open: nothing passes, and they do not linger

	known map[string]known // by source, see Publisher.Known
}

// SourceStatus is how one configured source stands.
type SourceStatus struct {
	Name     string
	Synced   bool             // it has been read completely once, in this life
	Err      error            // why it is not current, nil when it is
	Warning  error            // what is wrong besides, nil if nothing is
	Since    time.Time        // when Err is set: when it was last current, zero = never
	Stale    []source.Stale   // single services that are not current, by name; none if Err is set
	Expired  int              // services given up because what is known is too old
	Services int              // asking for a listener, those kept included
	Settling []Settling       // instances that are gone, and wait for Settle
	Held     []netip.AddrPort // listeners that the mass-removal guard keeps open, sorted
	AskedAt  time.Time        // when Held is set: the next consistent read, zero = one is under way
}

// Settling is an instance that is gone from its source and kept for the time
// being.
type Settling struct {
	Service, Instance string
	Until             time.Time // unless it comes back
}

// waiting lists the instances whose absence is not believed yet, those that go
// first in front.
func (f *feed) waiting(now time.Time) (all []Settling) {
	for k, until := range f.missing {
		if now.Before(until) {
			all = append(all, Settling{k.service, k.id, until})
		}
	}
	slices.SortFunc(all, func(a, b Settling) int {
		return cmp.Or(a.Until.Compare(b.Until), cmp.Compare(a.Service, b.Service), cmp.Compare(a.Instance, b.Instance))
	})
	return all
}

// newStatus describes the state that Run owns.
func (p *Publisher) newStatus(now time.Time) *Status {
	s := &Status{Table: p.table, Lingering: p.lingering, Waiting: p.waiting} // new maps each evaluation
	for _, l := range p.idle {
		if p.table.Lookup(l.Addr) == nil {
			s.Idle = append(s.Idle, l)
		}
	}
	s.known = make(map[string]known, len(p.feeds))
	for _, name := range slices.Sorted(maps.Keys(p.feeds)) {
		f := p.feeds[name]
		st := SourceStatus{
			Name:     name,
			Synced:   f.in.Synced,
			Err:      f.in.Err,
			Warning:  f.in.Warning,
			Expired:  len(f.expired),
			Services: len(f.services),
			Settling: f.waiting(now),
			Held:     f.held,
		}
		if !f.asking {
			st.AskedAt = f.retryAt
		}
		if f.in.Err != nil {
			st.Since = f.since()
		} else {
			st.Stale = f.stale.list()
		}
		s.known[name] = f.known(now)
		s.Sources = append(s.Sources, st)
	}
	return s
}

// since is when the feed was last current, zero = never.
func (f *feed) since() time.Time {
	if !f.in.StaleSince.IsZero() {
		return f.in.StaleSince
	}
	return f.current
}
