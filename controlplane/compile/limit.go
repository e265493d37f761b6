package compile

import (
	"cmp"
	"slices"
)

// within is what s may ask for: MaxPerService listeners, and what it has already.
// The rest is refused before it could keep a port from anybody.
func (c *compiler) within(s *service) []*claim {
	if c.MaxPerService == 0 || len(s.claims) <= c.MaxPerService {
		return s.claims
	}
	return c.lowest(s.claims, c.MaxPerService, c.holds, "%d ports for one service (listeners.max_per_service)")
}

// holds reports whether the address of cl is bound for its service.
func (c *compiler) holds(cl *claim) bool {
	owner, owned := c.in.Incumbents[cl.addr]
	return c.isBound(cl.addr) && (!owned || owner == cl.by.owner)
}

// open is what may be opened: MaxListeners, and what is bound already. Claims
// with nothing behind them are not opened, and take no room.
func (c *compiler) open(claims []*claim) []*claim {
	if c.MaxListeners == 0 || len(claims) <= c.MaxListeners {
		return claims
	}
	opens := func(cl *claim) bool { return c.isBound(cl.addr) || len(cl.listener.Backends) > 0 }
	var idle, wanted []*claim
	for _, cl := range claims {
		if opens(cl) {
			wanted = append(wanted, cl)
		} else {
			idle = append(idle, cl)
		}
	}
	held := func(cl *claim) bool { return c.isBound(cl.addr) }
	kept := append(c.lowest(wanted, c.MaxListeners, held, "%d ports in all (listeners.max)"), idle...)
	slices.SortFunc(kept, func(a, b *claim) int { return a.addr.Compare(b.addr) })
	return kept
}

// lowest keeps those that are held, and of the others until there are n those
// that dill had before it was started again, then those with the lowest ports;
// it refuses the rest. what names the limit.
func (c *compiler) lowest(claims []*claim, n int, held func(*claim) bool, what string) []*claim {
	if len(claims) <= n {
		return claims
	}
	var kept, fresh []*claim
	for _, cl := range claims {
		if held(cl) {
			kept = append(kept, cl)
		} else {
			fresh = append(fresh, cl)
		}
	}
	slices.SortFunc(fresh, func(a, b *claim) int {
		return cmp.Or(last(!c.reopens(a), !c.reopens(b)), cmp.Compare(a.addr.Port(), b.addr.Port()), a.addr.Compare(b.addr))
	})
	room := min(max(0, n-len(kept)), len(fresh))
	why := reason("above the limit of "+what, n)
	for _, cl := range fresh[room:] {
		cl.refuse(why)
	}
	return append(kept, fresh[:room]...)
}
