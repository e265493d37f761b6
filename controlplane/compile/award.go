package compile

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// seniority orders claims on one port.
type seniority uint8

const (
	incumbent    seniority = iota // owns this very address
	incumbentFor                  // owns one that overlaps it
	newcomer
)

// award gives every port to one service. It returns the claims that are
// served, sorted by address, and refuses the others.
func (c *compiler) award(claims []*claim) []*claim {
	byPort := func(a, b *claim) int { return cmp.Compare(a.addr.Port(), b.addr.Port()) }
	slices.SortStableFunc(claims, byPort)
	served := make([]*claim, 0, len(claims))
	for len(claims) > 0 {
		n := 1
		for n < len(claims) && claims[n].addr.Port() == claims[0].addr.Port() {
			n++
		}
		if n == 1 {
			served = append(served, claims[0]) // nobody else asks
		} else {
			served = append(served, c.dispute(claims[:n])...)
		}
		claims = claims[n:]
	}
	slices.SortFunc(served, func(a, b *claim) int { return a.addr.Compare(b.addr) })
	return served
}

// dispute awards claims on one port.
func (c *compiler) dispute(claims []*claim) (served []*claim) {
	type ranked struct {
		*claim
		seniority
	}
	owned := c.owned(claims[0].addr.Port())
	order := make([]ranked, len(claims))
	for i, cl := range claims {
		cl.covered = false
		order[i] = ranked{cl, c.rank(cl, owned)}
	}
	slices.SortFunc(order, func(a, b ranked) int {
		return cmp.Or(cmp.Compare(a.seniority, b.seniority), cmp.Compare(a.by.from, b.by.from),
			last(a.by.kept, b.by.kept), cmp.Compare(a.by.createIndex, b.by.createIndex), strings.Compare(a.by.owner, b.by.owner),
			a.addr.Compare(b.addr))
	})
	for _, r := range order {
		if r.contest(served) {
			served = append(served, r.claim)
		}
	}
	return slices.DeleteFunc(served, func(cl *claim) bool { return cl.covered })
}

// last orders true behind false. What is kept although the newest reading lacks
// it comes last wherever it stands beside what is there: a CreateIndex of
// another history says nothing about which of the two is newer.
func last(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// owned lists the addresses with a port that have an owner.
func (c *compiler) owned(port uint16) []netip.AddrPort {
	if c.incumbents == nil {
		c.incumbents = make(map[uint16][]netip.AddrPort, len(c.in.Incumbents))
		for a := range c.in.Incumbents {
			c.incumbents[a.Port()] = append(c.incumbents[a.Port()], a)
		}
	}
	return c.incumbents[port]
}

func (c *compiler) rank(cl *claim, owned []netip.AddrPort) seniority {
	best := newcomer
	for _, a := range owned {
		switch {
		case c.in.Incumbents[a] != cl.by.owner:
		case unmap(a) == cl.addr:
			return incumbent
		case overlaps(unmap(a), cl.addr):
			best = incumbentFor
		}
	}
	return best
}

// contest holds cl against the claims on its port that were awarded before it,
// and reports whether it is served. Awarded claims of the same service that it
// covers, address and members, give way.
func (cl *claim) contest(awarded []*claim) bool {
	var narrower []*claim
	for _, a := range awarded {
		switch {
		case a.covered || !overlaps(a.addr, cl.addr):
		case a.by != cl.by && a.addr == cl.addr:
			cl.refuse(reason("owned by %s", show(a.by.owner)))
			return false
		case a.by != cl.by:
			cl.refuse(reason("overlaps %s, owned by %s", a.addr, show(a.by.owner)))
			return false
		case a.addr.Addr().IsUnspecified():
			cl.refuse(reason("covered by %s of the same service", a.addr))
			return false
		case !cl.includes(a.members):
			// The incumbent: taking its port away would cost these instances.
			cl.refuse(reason("overlaps %s of the same service, which some instances ask for alone", a.addr))
			return false
		default:
			narrower = append(narrower, a)
		}
	}
	for _, a := range narrower {
		a.refuse(reason("covered by %s of the same service", cl.addr))
		a.covered = true
	}
	return true
}

// includes reports whether all of these instances are members of cl.
func (cl *claim) includes(members []instance) bool {
	i := 0
	for _, in := range cl.members {
		if i < len(members) && members[i].Instance == in.Instance {
			i++
		}
	}
	return i == len(members)
}

// overlaps reports whether two listeners would compete for connections. IPv6
// listeners take no IPv4 connections.
func overlaps(a, b netip.AddrPort) bool {
	x, y := a.Addr(), b.Addr()
	return a.Port() == b.Port() && x.Is4() == y.Is4() && (x == y || x.IsUnspecified() || y.IsUnspecified())
}
