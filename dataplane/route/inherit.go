package route

import (
	"net/netip"
	"slices"
)

// predecessor returns what addr's new listener inherits from: the previous
// generation's listener, or one that left earlier and still has sessions.
func (t *Table) predecessor(addr netip.AddrPort) *Listener {
	if t == nil {
		return nil
	}
	if l := t.byAddr[addr]; l != nil {
		return l
	}
	for _, l := range t.departed {
		if l.Addr == addr {
			return l
		}
	}
	return nil
}

// leaving returns the listeners of t, or departed before t, that next does not
// have and that still have sessions.
func (t *Table) leaving(next *Table) []*Listener {
	if t == nil {
		return nil
	}
	var gone []*Listener
	for _, from := range [][]*Listener{t.Listeners, t.departed} {
		for _, l := range from {
			if next.byAddr[l.Addr] == nil && l.State.Active.Load() > 0 {
				gone = append(gone, l)
			}
		}
	}
	return gone
}

// succeed returns l, ready for a table, as the heir of prev (nil: there is
// none). It is prev itself if nothing changed, and a copy of l if l is part of
// a table already.
func (l *Listener) succeed(prev *Listener) *Listener {
	if l == prev && !prev.outdated() {
		return prev
	}
	if l.State != nil {
		c := *l
		l = &c
	}
	l.Addr = unmap(l.Addr)
	l.State, l.slots, l.departed = nil, nil, nil
	l.normalise()

	if prev == nil {
		l.State = new(ListenerState)
		fresh := make([]BackendState, len(l.Backends))
		for i, b := range l.Backends {
			b.State = &fresh[i]
		}
		l.slots = newSlots(l)
		return l
	}
	if l.same(prev) && !prev.outdated() {
		return prev
	}
	l.State = prev.State
	l.inheritBackends(prev)
	if l.sameSchedule(prev) {
		l.slots = prev.slots
	} else {
		l.slots = newSlots(l)
	}
	l.readmit()
	return l
}

// normalise sorts the backends, drops repeated targets, and copies backends
// that belong to a table, and the slice that held them: they are about to be
// written to.
func (l *Listener) normalise() {
	inTable := func(b *Backend) bool { return b.State != nil }
	if slices.ContainsFunc(l.Backends, inTable) {
		l.Backends = slices.Clone(l.Backends)
	}
	for i, b := range l.Backends {
		if inTable(b) {
			c := *b
			c.State = nil
			l.Backends[i], b = &c, &c
		}
		b.Addr = unmap(b.Addr)
		b.Weight = max(1, b.Weight)
	}
	if !slices.IsSortedFunc(l.Backends, (*Backend).CompareTarget) {
		slices.SortStableFunc(l.Backends, (*Backend).CompareTarget)
	}
	l.Backends = slices.CompactFunc(l.Backends, (*Backend).sameTarget)
	if len(l.Backends) > MaxBackends {
		l.Backends = l.Backends[:MaxBackends]
	}
}

// inheritBackends gives every backend its state: prev's for the same target,
// a fresh one otherwise. Both lists are sorted.
func (l *Listener) inheritBackends(prev *Listener) {
	old := prev.Backends
	var fresh []BackendState
	for i, b := range l.Backends {
		for len(old) > 0 && old[0].CompareTarget(b) < 0 {
			l.depart(old[0])
			old = old[1:]
		}
		if len(old) > 0 && old[0].sameTarget(b) {
			b.State, old = old[0].State, old[1:]
			continue
		}
		if j := slices.IndexFunc(prev.departed, b.sameTarget); j >= 0 {
			b.State = prev.departed[j].State
			continue
		}
		if len(fresh) == 0 {
			fresh = make([]BackendState, len(l.Backends)-i)
		}
		b.State, fresh = &fresh[0], fresh[1:]
	}
	for _, b := range old {
		l.depart(b)
	}
	for _, b := range prev.departed {
		if l.Backend(b) == nil {
			l.depart(b)
		}
	}
}

// depart remembers a backend that left while it has connections.
func (l *Listener) depart(b *Backend) {
	if b.State.Active.Load() > 0 {
		l.departed = append(l.departed, b)
	}
}

// outdated reports whether l remembers a departed backend whose last
// connection has ended, so that it should be rebuilt without it.
func (l *Listener) outdated() bool {
	return slices.ContainsFunc(l.departed, func(b *Backend) bool { return b.State.Active.Load() == 0 })
}

// same reports whether l serves exactly what prev serves, in the same way.
func (l *Listener) same(prev *Listener) bool {
	return l.Addr == prev.Addr && l.SameOptions(prev) &&
		slices.EqualFunc(l.Backends, prev.Backends, (*Backend).Same)
}

// SameOptions reports whether two listeners agree in all that the control plane
// says about them, but for addresses and backends.
func (l *Listener) SameOptions(o *Listener) bool {
	return l.Owner == o.Owner && l.Strategy == o.Strategy && l.MaxConnections == o.MaxConnections &&
		l.IdleTimeout == o.IdleTimeout && l.DrainTimeout == o.DrainTimeout && l.Waiting == o.Waiting &&
		(l.Allow == nil) == (o.Allow == nil) && slices.Equal(l.Allow, o.Allow)
}

// Same reports whether two backends agree in all that the control plane says
// about them.
func (b *Backend) Same(o *Backend) bool {
	return b.sameTarget(o) && b.Instance == o.Instance && b.Weight == o.Weight &&
		b.ConnectTimeout == o.ConnectTimeout && b.ProxyProtocol == o.ProxyProtocol &&
		(b.Socks == nil) == (o.Socks == nil) && (b.Socks == nil || *b.Socks == *o.Socks)
}

// sameSchedule reports whether prev's precomputed slots are right for l.
func (l *Listener) sameSchedule(prev *Listener) bool {
	return l.Strategy == prev.Strategy &&
		slices.EqualFunc(l.Backends, prev.Backends, func(a, b *Backend) bool {
			return a.sameTarget(b) && a.Weight == b.Weight
		})
}
