package compile

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
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

// request reads tags and resolves their claims.
func (c *compiler) request(tags []string) *request {
	r := &request{spec: parseTags(tags)}
	r.faults = slices.Clip(r.spec.faults)
	if !r.enabled {
		if len(r.claims) > 0 {
			r.faults = append(r.faults, fault{keyListener, `the instance lacks the tag "dill"`})
		}
		return r
	}
	for _, value := range r.claims {
		addr, why := c.address(value)
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
	return r
}

// address resolves a claim such as "local:5555", or says why it cannot.
func (c *compiler) address(claim string) (addr netip.AddrPort, why string) {
	i := strings.LastIndexByte(claim, ':')
	if i < 0 {
		return addr, "want <label>:<port>"
	}
	ip, ok := c.Allowed[strings.ToLower(claim[:i])]
	if !ok {
		if c.labels == "" {
			return addr, "unknown label; none is allowed"
		}
		return addr, reason("unknown label; allowed: %s", c.labels)
	}
	digits := claim[i+1:]
	port, err := strconv.ParseUint(digits, 10, 32)
	switch {
	case err != nil && !allDigits(digits):
		return addr, reason("want a port from %d to %d after the label", c.PortMin, c.PortMax)
	case err != nil || port > uint64(c.PortMax) || port > 65535:
		return addr, reason("the port is above %d (listeners.port_max)", c.PortMax)
	case port < uint64(c.PortMin) || port == 0:
		return addr, reason("the port is below %d (listeners.port_min)", c.PortMin)
	}
	addr = netip.AddrPortFrom(ip.Unmap(), uint16(port))
	for _, own := range c.reserved {
		if overlaps(addr, own) {
			return addr, reason("taken by dill itself (%s)", own)
		}
	}
	return addr, ""
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
}

// claims lists what the instances of s ask for.
func (c *compiler) claims(s *service) []*claim {
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
