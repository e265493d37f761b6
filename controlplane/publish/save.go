package publish

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"dill/controlplane/state"
	"dill/dataplane/route"
)

// former has what listeners without backends were served with last: those that
// wait for host names, and those that lingered when dill ended last, as far as
// the file tells of them: address, owner and the instances they were tried on.
// Each stays until it is served again, or need not be.
type former map[netip.AddrPort]*route.Listener

func newFormer(s state.State) former {
	f := make(former, len(s.Lingering))
	for addr, ids := range s.Lingering {
		l := &route.Listener{Addr: addr, Owner: s.Owners[addr]}
		for _, id := range ids {
			l.Backends = append(l.Backends, &route.Backend{Instance: id})
		}
		f[addr] = l
	}
	return f
}

// lastServed is what is served at an address, or was when dill ended last.
func (p *Publisher) lastServed(addr netip.AddrPort) *route.Listener {
	l := p.table.Lookup(addr)
	if former := p.former[addr]; former != nil && (l == nil || len(l.Backends) == 0) {
		return former
	}
	return l
}

// rememberFormer remembers what is served until next, and waits from then on.
func (p *Publisher) rememberFormer(next *route.Table) {
	for addr := range p.waiting {
		if last := p.lastServed(addr); last != nil && len(next.Lookup(addr).Backends) == 0 {
			p.former[addr] = last
		}
	}
}

// forgetFormer forgets the former listeners that are served again, and those that
// are closed since the table before. The rest may not be open yet, but for no
// longer than it may linger.
func (p *Publisher) forgetFormer(before *route.Table, now time.Time) {
	maps.DeleteFunc(p.former, func(addr netip.AddrPort, former *route.Listener) bool {
		if l := p.table.Lookup(addr); l != nil {
			return len(l.Backends) > 0
		}
		from, name, _ := strings.Cut(former.Owner, "/")
		f := p.feeds[from]
		return f == nil || f.proves(name) && (before.Lookup(addr) != nil || now.Sub(p.began) > p.set.Linger)
	})
}

// lingeringSets has the instances that lingering listeners are tried on.
func (p *Publisher) lingeringSets() map[netip.AddrPort][]string {
	if len(p.lingering) == 0 {
		return nil
	}
	sets := make(map[netip.AddrPort][]string, len(p.lingering))
	for addr := range p.lingering {
		for _, b := range p.lastServed(addr).Backends {
			sets[addr] = append(sets[addr], b.Instance)
		}
	}
	return sets
}

// saveDue is when the state is to be saved again although nothing has changed,
// zero = never: the file must not look older than it is to a start after a crash
// that serves nothing too old.
func (p *Publisher) saveDue() (due time.Time) {
	for _, f := range p.feeds {
		if p.cfg.Save != nil && f.maxStale > 0 && f.believed() {
			due = earliest(due, p.saved.Add(f.maxStale/4))
		}
	}
	return due
}

// savedScope is the scope that a restart is to believe f's services to be of: while
// some are left of another, that one, so that none of those is inherited.
func (f *feed) savedScope() string {
	if len(f.foreign) == 0 {
		return f.scope
	}
	return slices.Min(slices.Collect(maps.Values(f.foreign)))
}

// save hands the present state to whoever keeps it, if it changed or, at the
// end, to record that it was current until then.
func (p *Publisher) save(now time.Time, last bool) {
	if due := p.saveDue(); !due.IsZero() && !now.Before(due) {
		p.unsaved = true
	}
	if p.cfg.Save == nil || !p.unsaved && !last {
		return
	}
	s := state.State{Saved: now, Owners: p.owners, Lingering: p.lingeringSets()}
	for _, name := range slices.Sorted(maps.Keys(p.feeds)) {
		f := p.feeds[name]
		since := now
		if !f.believed() {
			since = f.since()
		}
		if since.IsZero() && len(f.services) == 0 {
			continue // never heard of: an earlier file's entry has nothing either
		}
		stale := make(map[string]time.Time, len(f.stale))
		for service, one := range f.stale {
			stale[service] = one.Since
		}
		s.Sources = append(s.Sources, state.Source{Name: name, Scope: f.savedScope(), Since: since, Services: f.services, Stale: stale})
	}
	// Before the first evaluation there is nothing to keep, and a file from
	// an earlier life must not be replaced by it.
	if len(s.Sources) == 0 {
		return
	}
	p.unsaved, p.saved = false, now
	p.cfg.Save(s)
}
