package publish

import (
	"net/netip"
	"slices"
	"time"

	"dill/dataplane/route"
)

// noteLingering logs what begins to linger in c, and what ceases to and why.
func (p *Publisher) noteLingering(c candidate, now time.Time) {
	next := c.lingers.until
	if begun := next.without(p.lingering); len(begun) > maxLines {
		p.log.Warn("listeners linger", keyListeners, len(begun), keyFor, p.set.Linger)
	} else {
		for _, addr := range begun {
			p.log.Warn("listener lingers", keyListener, addr, keyOwner, p.lastServed(addr).Owner, keyFor, p.set.Linger)
		}
	}
	ended := p.lingering.without(next)
	if len(ended) > maxLines {
		p.log.Info("listeners no longer linger", keyListeners, len(ended))
		return
	}
	for _, addr := range ended {
		l := p.table.Lookup(addr)
		p.log.Info("listener no longer lingers", keyListener, addr, keyOwner, l.Owner,
			keyReason, c.whyNoLonger(l, !now.Before(p.lingering[addr])))
	}
}

// without returns the listeners of u that v does not have, sorted.
func (u untils) without(v untils) (only []netip.AddrPort) {
	for addr := range u {
		if _, both := v[addr]; !both {
			only = append(only, addr)
		}
	}
	slices.SortFunc(only, netip.AddrPort.Compare)
	return only
}

// whyNoLonger is why l, which lingered, does not in c; over tells that its time
// was up.
func (c candidate) whyNoLonger(l *route.Listener, over bool) string {
	i, claimed := slices.BinarySearchFunc(c.compiled.Listeners, l.Addr, func(l *route.Listener, addr netip.AddrPort) int { return l.Addr.Compare(addr) })
	switch {
	case !claimed:
		return "closed: no instance claims it any more"
	case c.compiled.Listeners[i].Owner != l.Owner:
		return "another service has the port"
	case len(c.compiled.Listeners[i].Backends) > 0:
		return "an instance is served again"
	case !c.lingers.waits[l.Addr].over():
		return "an instance is passing, and its host name is being looked up"
	case over:
		return "closed: no instance passed in time"
	}
	return "closed: no instance is left to try"
}
