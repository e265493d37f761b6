package compile

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"dill/controlplane/source"
	"dill/dataplane/route"
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

	// listening are the awarded addresses, sorted, and served is those and the
	// reserved ones, by port. Every built claim is right for these.
	listening []netip.AddrPort
	served    map[uint16][]netip.AddrPort
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

// reset forgets everything.
func (m *Memo) reset(opt Options) {
	// The maps and slices of opt are the caller's.
	opt.Allowed = maps.Clone(opt.Allowed)
	opt.Reserved = slices.Clone(opt.Reserved)
	opt.LocalAddrs = slices.Clone(opt.LocalAddrs)
	*m = Memo{
		Options: opt,
		labels:  strings.Join(slices.Sorted(maps.Keys(opt.Allowed)), ", "),
		known:   make(map[identity]*service),
		served:  make(map[uint16][]netip.AddrPort),
	}
	for _, a := range opt.Reserved {
		m.reserved = append(m.reserved, unmap(a))
		if a.Addr() == netip.IPv6Unspecified() {
			m.reserved = append(m.reserved, netip.AddrPortFrom(netip.IPv4Unspecified(), a.Port()))
		}
	}
	for _, a := range m.reserved {
		m.served[a.Port()] = append(m.served[a.Port()], a)
	}
}

func (o Options) equal(p Options) bool {
	return o.PortMin == p.PortMin && o.PortMax == p.PortMax && o.AllowWarning == p.AllowWarning &&
		maps.Equal(o.Allowed, p.Allowed) && slices.Equal(o.Reserved, p.Reserved) && slices.Equal(o.LocalAddrs, p.LocalAddrs)
}

// service returns the memory of a service, which is empty when it is new.
func (m *Memo) service(from, name string) *service {
	id := identity{from, name}
	s := m.known[id]
	if s == nil {
		s = &service{owner: from + "/" + name, from: slices.Index(sourceOrder, from)}
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

// serve makes the awarded claims, which are sorted by address, those that dill
// listens on, and returns the ports at which that is a change.
func (m *Memo) serve(awarded []*claim) (changed map[uint16]bool) {
	note := func(a netip.AddrPort) {
		if changed == nil {
			changed = make(map[uint16]bool)
		}
		changed[a.Port()] = true
	}
	old := m.listening
	for _, cl := range awarded {
		for len(old) > 0 && old[0].Compare(cl.addr) < 0 {
			note(old[0])
			old = old[1:]
		}
		if len(old) > 0 && old[0] == cl.addr {
			old = old[1:]
		} else {
			note(cl.addr)
		}
	}
	for _, a := range old {
		note(a)
	}
	if changed == nil {
		return nil
	}
	for port := range changed {
		delete(m.served, port)
	}
	for _, a := range m.reserved {
		if changed[a.Port()] {
			m.served[a.Port()] = append(m.served[a.Port()], a)
		}
	}
	m.listening = make([]netip.AddrPort, 0, len(awarded))
	for _, cl := range awarded {
		m.listening = append(m.listening, cl.addr)
		if changed[cl.addr.Port()] {
			m.served[cl.addr.Port()] = append(m.served[cl.addr.Port()], cl.addr)
		}
	}
	return changed
}

// built returns the listener of an awarded claim: the one that was built for it
// already, if what it depends on besides the claim is as it was then.
func (c *compiler) built(cl *claim, changed map[uint16]bool) *route.Listener {
	moved := func(port uint16) bool { return changed[port] }
	last := cl.round
	cl.round = c.round
	if cl.listener != nil && last == c.round-1 && !cl.named && (len(changed) == 0 || !slices.ContainsFunc(cl.dialled, moved)) {
		cl.by.notes = append(cl.by.notes, cl.notes...)
		return cl.listener
	}
	before := len(cl.by.notes)
	c.named, c.dialled = false, c.dialled[:0]
	cl.listener = c.listener(cl)
	cl.notes = slices.Clone(cl.by.notes[before:])
	slices.Sort(c.dialled)
	cl.named, cl.dialled = c.named, slices.Clone(slices.Compact(c.dialled))
	return cl.listener
}
