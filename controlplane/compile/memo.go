package compile

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"dill/controlplane/source"
)

// Memo compiles one input after the other, and works out anew only what
// differs: in a catalog of thousands one service changes at a time. Its results
// are those of the function Compile, whatever it compiled before. The zero Memo
// is ready; one goroutine uses it.
//
// It keeps the services of the last input, which nobody may modify, and what it
// made of them. So a Listener may be part of several results: nobody may modify
// it either, but for route.NewTable, which leaves alone what is in a table.
type Memo struct {
	Options
	labels   string           // those allowed, for reasons
	reserved []netip.AddrPort // Options.Reserved, where [::] is only IPv6

	known map[identity]*service // those of the last input
	round uint64                // counts compilations
	moves uint64                // counts calls of Moved

	// bound is that of the last input, and own is those addresses and the
	// reserved ones, by port. Every built claim is right for these.
	bound []netip.AddrPort
	own   map[uint16][]netip.AddrPort
}

// identity names a service.
type identity struct{ source, name string }

// Compile is the function Compile.
func (m *Memo) Compile(opt Options, in Input) Result {
	if m.known == nil || !m.Options.equal(opt) {
		m.reset(opt)
	}
	c := &compiler{Memo: m, in: in}
	return c.compile()
}

// Moved says that Options.Local may answer differently from now on.
func (m *Memo) Moved() { m.moves++ }

// reset forgets everything.
func (m *Memo) reset(opt Options) {
	// The maps and slices of opt are the caller's.
	opt.Allowed = maps.Clone(opt.Allowed)
	opt.Reserved, opt.Upstreams = slices.Clone(opt.Reserved), slices.Clone(opt.Upstreams)
	*m = Memo{
		Options: opt,
		labels:  strings.Join(slices.Sorted(maps.Keys(opt.Allowed)), ", "),
		known:   make(map[identity]*service),
		own:     make(map[uint16][]netip.AddrPort),
	}
	for _, a := range opt.Reserved {
		m.reserved = append(m.reserved, unmap(a))
		if a.Addr() == netip.IPv6Unspecified() {
			m.reserved = append(m.reserved, netip.AddrPortFrom(netip.IPv4Unspecified(), a.Port()))
		}
	}
	for _, a := range m.reserved {
		m.own[a.Port()] = append(m.own[a.Port()], a)
	}
}

// equal compares all but Local, which is always the same.
func (o Options) equal(p Options) bool {
	return o.PortMin == p.PortMin && o.PortMax == p.PortMax && o.MaxPerService == p.MaxPerService &&
		o.MaxListeners == p.MaxListeners && o.AllowWarning == p.AllowWarning &&
		maps.Equal(o.Allowed, p.Allowed) && slices.Equal(o.Reserved, p.Reserved) && slices.Equal(o.Upstreams, p.Upstreams)
}

// service returns the memory of a service, which is empty when it is new.
func (m *Memo) service(from, name string) *service {
	id := identity{from, name}
	s := m.known[id]
	if s == nil {
		s = &service{owner: from + "/" + name, from: slices.Index(sourceOrder, from), document: slices.Contains(documents, from)}
		if s.from < 0 {
			s.from = len(sourceOrder)
		}
		m.known[id] = s
	}
	return s
}

// same tells whether two registrations are the same for all that is worked out
// from them. Sources hand on what did not change, so mostly one look does.
func same(a, b source.Service) bool {
	return a.CreateIndex == b.CreateIndex && source.EqualInstances(a.Instances, b.Instances)
}

// listen takes over what dill listens on, which is sorted, and returns the
// ports at which that is a change.
func (m *Memo) listen(bound []netip.AddrPort) (changed map[uint16]bool) {
	if slices.Equal(bound, m.bound) {
		return nil
	}
	changed = make(map[uint16]bool)
	old := m.bound
	for _, a := range bound {
		for len(old) > 0 && old[0].Compare(a) < 0 {
			changed[old[0].Port()] = true
			old = old[1:]
		}
		if len(old) > 0 && old[0] == a {
			old = old[1:]
		} else {
			changed[a.Port()] = true
		}
	}
	for _, a := range old {
		changed[a.Port()] = true
	}
	for port := range changed {
		delete(m.own, port)
	}
	m.bound = slices.Clone(bound)
	for _, all := range [][]netip.AddrPort{m.reserved, m.bound} {
		for _, a := range all {
			if changed[a.Port()] {
				m.own[a.Port()] = append(m.own[a.Port()], a)
			}
		}
	}
	return changed
}

// build gives an awarded claim its listener, unless the one that was built for it
// already is right: if what it depends on besides the claim is as it was then.
func (c *compiler) build(cl *claim, changed map[uint16]bool) {
	moved := func(port uint16) bool { return changed[port] }
	last := cl.round
	cl.round = c.round
	if cl.listener != nil && last == c.round-1 && !cl.named && !(cl.asked && cl.moves != c.moves) &&
		(len(changed) == 0 || !slices.ContainsFunc(cl.dialled, moved)) {
		cl.by.notes = append(cl.by.notes, cl.notes...)
		return
	}
	before := len(cl.by.notes)
	c.named, c.asked, c.dialled = false, false, c.dialled[:0]
	cl.listener = c.listener(cl)
	cl.notes = slices.Clone(cl.by.notes[before:])
	slices.Sort(c.dialled)
	cl.named, cl.asked, cl.moves = c.named, c.asked, c.moves
	cl.dialled = slices.Clone(slices.Compact(c.dialled))
}
