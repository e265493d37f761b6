package compile

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"dill/controlplane/source"
	"dill/dataplane/route"
)

// request is a spec whose claims were held against the configuration.
type request struct {
	*spec
	listeners []wanted // sorted by address, unique; empty if refused
	faults    []fault  // the spec's and those of its claims
}

// wanted is one listener that an instance asks for.
type wanted struct {
	addr netip.AddrPort
	tag  string // safe to print
}

// request reads tags, and what the source could not read, and resolves claims.
func (m *Memo) request(tags []string, unread []source.Fault) *request {
	r := &request{spec: parseTags(tags, unread)}
	r.faults = slices.Clip(r.spec.faults)
	switch {
	case r.enabled && len(r.claims) > 0:
		m.resolve(r)
	case r.missed || r.unusable: // a fault says so
	case r.enabled:
		r.faults = append(r.faults, fault{keyListener, "no such tag, so no port is asked for; want " + keyListener + "=<label>:<port>"})
	case len(r.claims) > 0:
		r.faults = append(r.faults, fault{keyListener, `the instance lacks the tag "dill"`})
	}
	r.faults = firstFaults(r.faults)
	return r
}

// resolve finds the listeners that r's claims are about.
func (m *Memo) resolve(r *request) {
	for _, value := range r.claims {
		addr, why := m.address(value)
		tag := showTag(keyListener + "=" + value)
		switch {
		case why != "":
			r.faults = append(r.faults, fault{tag, why})
		case !r.refused:
			r.listeners = append(r.listeners, wanted{addr, tag})
		}
	}
	slices.SortFunc(r.listeners, func(a, b wanted) int {
		if n := a.addr.Compare(b.addr); n != 0 {
			return n
		}
		return strings.Compare(a.tag, b.tag)
	})
	r.listeners = slices.CompactFunc(r.listeners, func(a, b wanted) bool { return a.addr == b.addr })
}

// address resolves a claim such as "local:5555", or says why it cannot.
func (m *Memo) address(claim string) (addr netip.AddrPort, why string) {
	i := strings.LastIndexByte(claim, ':')
	if i < 0 {
		return addr, "want <label>:<port>"
	}
	ip, ok := m.Allowed[strings.ToLower(claim[:i])]
	switch {
	case ok && allDigits(claim[i+1:]):
	case strings.Contains(claim, ","):
		return addr, "several in one tag; want a tag for each listener"
	case strings.Contains(claim, "://"):
		return addr, "a URL; want <label>:<port>"
	case !ok:
		return addr, m.unknown(claim[:i])
	}
	digits := claim[i+1:]
	port, err := strconv.ParseUint(digits, 10, 32)
	switch {
	case err != nil && !allDigits(digits):
		return addr, reason("want a port from %d to %d after the label", m.PortMin, m.PortMax)
	case err != nil || port > uint64(m.PortMax) || port > 65535:
		return addr, reason("the port is above %d (listeners.port_max)", m.PortMax)
	case port < uint64(m.PortMin) || port == 0:
		return addr, reason("the port is below %d (listeners.port_min)", m.PortMin)
	}
	addr = netip.AddrPortFrom(ip.Unmap(), uint16(port))
	for _, own := range m.reserved {
		if overlaps(addr, own) {
			return addr, reason("taken by dill itself (%s)", own)
		}
	}
	return addr, ""
}

// unknown says why there is no such label.
func (m *Memo) unknown(label string) string {
	what := "unknown label"
	if _, err := netip.ParseAddr(strings.Trim(label, "[]")); err == nil {
		what = "an address where a label is wanted"
	}
	if m.labels == "" {
		return what + "; none is allowed"
	}
	return reason("%s; allowed: %s", what, m.labels)
}

func allDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// claim is one service asking for one listener.
type claim struct {
	by      *service
	addr    netip.AddrPort
	tag     string     // as an instance wrote it, safe to print
	members []instance // those that ask for it, sorted by ID
	covered bool       // awarded, then given up for a wider address

	// What built remembers of an awarded claim.
	round    uint64          // newest compilation in which it was one
	listener *route.Listener // nil = none yet
	notes    []note          // that came with it
	idle     string          // why it has no backends, see compiler.idle
	named    bool            // host names went into it
	pending  []Unanswered    // those of them that have no answer yet
	asked    bool            // answers of Local did
	moves    uint64          // Memo.moves then
	dialled  []uint16        // the ports of its backends and their proxies
}

// claims lists what the instances of s ask for.
func claims(s *service) []*claim {
	var all []*claim
	byAddr := make(map[netip.AddrPort]*claim, 1)
	for i, in := range s.instances {
		for _, w := range in.listeners {
			cl := byAddr[w.addr]
			if cl == nil {
				cl = &claim{by: s, addr: w.addr, tag: w.tag, members: make([]instance, 0, len(s.instances)-i)}
				byAddr[w.addr] = cl
				all = append(all, cl)
			}
			cl.tag = min(cl.tag, w.tag)
			cl.members = append(cl.members, in)
		}
	}
	return all
}

// refuse says why cl is not served. The instance is named if it is the only
// one that asks.
func (cl *claim) refuse(why string) {
	who := ""
	if len(cl.members) == 1 {
		who = cl.members[0].ID
	}
	cl.by.note(who, cl.tag, why)
}
