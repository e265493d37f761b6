package publish

import (
	"maps"
	"net/netip"
	"slices"

	"dill/controlplane/compile"
)

// bound is what the plane listens on.
type bound struct {
	addrs []netip.AddrPort // sorted, as of the last look

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
func (b *bound) input(in *compile.Input) { in.Bound, in.Reopening = b.addrs, b.reopening }

// look asks the plane what it has bound, and reports whether that has changed.
func (p *Publisher) look() bool {
	open := p.cfg.Plane.Listening()
	addrs := make([]netip.AddrPort, 0, len(open))
	for _, l := range p.table.Listeners { // sorted
		if err, known := open[l.Addr]; known && err == nil {
			addrs = append(addrs, l.Addr)
		}
	}
	if slices.Equal(addrs, p.bound.addrs) {
		return false
	}
	p.bound.addrs = addrs
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
