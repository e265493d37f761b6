package publish

import (
	"errors"
	"maps"
	"net/netip"
	"slices"

	"dill/controlplane/compile"
	"dill/dataplane/route"
)

// bound is what the plane listens on.
type bound struct {
	addrs []netip.AddrPort // sorted, as of the last look

	// inUse are listeners of the table, sorted, at which another program listened
	// at the last look. givenUp are those, sorted, that are in no table any more
	// because of that; compile.Result.InUse says for how long.
	inUse, givenUp []netip.AddrPort

	// reopening are the listeners of a former life, with their owners, until the
	// plane has had a second to bind them: what dill had first it keeps through a
	// restart. offered are those of them that have been in a table for a look.
	reopening map[netip.AddrPort]string
	offered   map[netip.AddrPort]bool
}

func newBound(owners map[netip.AddrPort]string) bound {
	return bound{reopening: maps.Clone(owners), offered: make(map[netip.AddrPort]bool)}
}

// input tells the compiler what is bound.
func (b *bound) input(in *compile.Input) {
	in.Bound, in.Reopening, in.InUse = b.addrs, b.reopening, b.inUse
	if len(b.givenUp) > 0 {
		in.InUse = slices.Concat(b.inUse, b.givenUp)
		slices.SortFunc(in.InUse, netip.AddrPort.Compare)
	}
}

// look asks the plane what it has bound and what others have, and reports whether
// that has changed.
func (p *Publisher) look() bool {
	open := p.cfg.Plane.Listening()
	addrs := make([]netip.AddrPort, 0, len(open))
	var inUse []netip.AddrPort
	for _, l := range p.table.Listeners { // sorted
		switch err, known := open[l.Addr]; {
		case known && err == nil:
			addrs = append(addrs, l.Addr)
		case errors.Is(err, route.ErrInUse):
			inUse = append(inUse, l.Addr)
		}
	}
	if slices.Equal(addrs, p.bound.addrs) && slices.Equal(inUse, p.bound.inUse) {
		return false
	}
	p.bound.addrs, p.bound.inUse = addrs, inUse
	return true
}

// lookAgain looks once a second, and ends the reopening of what the plane has
// had for a second.
func (p *Publisher) lookAgain() (changed bool) {
	b := &p.bound
	for addr := range b.reopening {
		switch {
		case p.table.Lookup(addr) == nil:
		case b.offered[addr]:
			delete(b.reopening, addr)
			delete(b.offered, addr)
			changed = true
		default:
			b.offered[addr] = true
		}
	}
	return p.look() || changed
}
