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
	owned := make(map[uint16][]netip.AddrPort)
	for a := range c.in.Incumbents {
		owned[a.Port()] = append(owned[a.Port()], a)
	}
	rank := func(cl *claim) seniority {
		best := newcomer
		for _, a := range owned[cl.addr.Port()] {
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
	type ranked struct {
		*claim
		seniority
	}
	order := make([]ranked, len(claims))
	for i, cl := range claims {
		order[i] = ranked{cl, rank(cl)}
	}
	slices.SortFunc(order, func(a, b ranked) int {
		if n := cmp.Compare(a.addr.Port(), b.addr.Port()); n != 0 {
			return n
		}
		return cmp.Or(cmp.Compare(a.seniority, b.seniority), cmp.Compare(a.by.from, b.by.from),
			cmp.Compare(a.by.createIndex, b.by.createIndex), strings.Compare(a.by.owner, b.by.owner),
			a.addr.Compare(b.addr))
	})

	var served []*claim
	start := 0 // of the present port's claims in served
	for _, r := range order {
		cl := r.claim
		if start < len(served) && served[start].addr.Port() != cl.addr.Port() {
			start = len(served)
		}
		if cl.contest(served[start:]) {
			served = append(served, cl)
		}
	}
	served = slices.DeleteFunc(served, func(cl *claim) bool { return cl.covered })
	slices.SortFunc(served, func(a, b *claim) int { return a.addr.Compare(b.addr) })
	return served
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
