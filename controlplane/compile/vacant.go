package compile

import (
	"net/netip"
	"slices"
)

// vacant refuses the claims on ports at which a backend of another service is
// registered, in whatever health: that port is in use, or will be as soon as the
// backend is started again. What dill has bound is its own; there it is the
// backend that is refused. A service that claims the port itself does not get it
// from the incumbent by a backend that it registers there. Neither is the port
// given away at which a source is asked.
//
// One port may well be several services', each at an address of its own of this
// host. Where another program listens at the very address of the claim, though,
// the backend is taken to be that program, whichever address it is registered at:
// bound to 0.0.0.0 it could not be started again once dill had the port.
func (c *compiler) vacant(services []*service, claims []*claim) []*claim {
	var fresh portSet
	for _, cl := range claims {
		if !c.had(cl) {
			fresh.add(cl.addr.Port())
		}
	}
	if fresh.n == 0 {
		return claims
	}
	there := c.registered(services, &fresh)
	return slices.DeleteFunc(claims, func(cl *claim) bool {
		if c.had(cl) {
			return false
		}
		why := c.taken(cl, there[cl.addr.Port()])
		if why != "" {
			cl.refuse(why)
		}
		return why != ""
	})
}

// taken says who has the port of cl, "" if nobody is known to have it.
func (c *compiler) taken(cl *claim, there []resident) (why string) {
	why = c.occupant(cl, there, func(a netip.Addr) bool { return c.reaches(a, cl.addr.Addr()) })
	if why != "" || !c.inUse(cl.addr) {
		return why
	}
	if why = c.occupant(cl, there, c.here); why == "" {
		return ""
	}
	c.refused = append(c.refused, cl.addr)
	return reason("%s: %s is in use", why, cl.addr)
}

// occupant says what stands in the way of cl, "" for nothing, of what is at its
// port and at an address for which at is true.
func (c *compiler) occupant(cl *claim, there []resident, at func(netip.Addr) bool) string {
	if setting := c.upstream(cl, at); setting != "" {
		return reason("taken by what dill itself asks (%s)", setting)
	}
	for _, b := range there {
		if c.hinders(b.by, cl) && at(b.at.Addr()) {
			return reason("taken by a backend of %s (%s at %s)", show(b.by.owner), show(b.instance), b.at)
		}
	}
	return ""
}

// inUse reports whether another program is known to listen at addr.
func (c *compiler) inUse(addr netip.AddrPort) bool {
	_, is := slices.BinarySearchFunc(c.in.InUse, addr, netip.AddrPort.Compare)
	return is
}

// upstream is the setting that names what is asked at the port of cl and at an
// address for which at is true, "" if none does or cl may take it.
func (c *compiler) upstream(cl *claim, at func(netip.Addr) bool) string {
	if cl.by.from == slices.Index(sourceOrder, "file") {
		return ""
	}
	for _, u := range c.Upstreams {
		if u.Port != int(cl.addr.Port()) {
			continue
		}
		addrs, _ := c.targets(nil, u.Host, u.Port)
		if slices.ContainsFunc(addrs, func(a netip.AddrPort) bool { return at(a.Addr()) }) {
			return u.Setting
		}
	}
	return ""
}

// hinders reports whether a backend of s at the port of cl is in its way.
func (c *compiler) hinders(s *service, cl *claim) bool {
	switch {
	case s == cl.by:
		return c.displaces(cl)
	case c.in.Incumbents[cl.addr] != cl.by.owner:
		return true
	}
	return !slices.ContainsFunc(s.claims, func(own *claim) bool { return overlaps(own.addr, cl.addr) })
}

// displaces reports whether cl would have its own service give up a listener that
// is bound: what is open is not closed for what cannot be opened.
func (c *compiler) displaces(cl *claim) bool {
	return slices.ContainsFunc(c.own[cl.addr.Port()], func(a netip.AddrPort) bool {
		return overlaps(a, cl.addr) && c.in.Incumbents[a] == cl.by.owner
	})
}

// had reports whether the address of cl was dill's before any backend came.
func (c *compiler) had(cl *claim) bool {
	return c.isBound(cl.addr) || c.reopens(cl)
}

// reopens reports whether cl's service had its address before dill was started
// again.
func (c *compiler) reopens(cl *claim) bool { return c.in.Reopening[cl.addr] == cl.by.owner }

// isBound reports whether dill listens on the address of a claim.
func (c *compiler) isBound(addr netip.AddrPort) bool {
	return slices.Contains(c.own[addr.Port()], addr)
}

// resident is a registered backend, or the proxy that it is behind, at an
// address that dill does not listen on.
type resident struct {
	by       *service
	instance string
	at       netip.AddrPort
}

// registered lists the residents of these ports.
func (c *compiler) registered(services []*service, of *portSet) map[uint16][]resident {
	all := make(map[uint16][]resident, of.n)
	var room [8]netip.AddrPort
	for _, s := range services {
		for _, in := range s.instances {
			host, port := in.Host, in.Port
			if in.proxy != nil {
				host, port = in.proxy.host, int(in.proxy.port)
			}
			if !of.has(port) {
				continue
			}
			addrs, _ := c.targets(room[:0], host, port) // without one it is nowhere
			for _, a := range addrs {
				if _, ours := c.caught(a); !ours {
					all[a.Port()] = append(all[a.Port()], resident{s, in.ID, a})
				}
			}
		}
	}
	return all
}

// portSet is a set of ports.
type portSet struct {
	bits [1 << 16 / 64]uint64
	n    int // ports in it
}

func (s *portSet) add(port uint16) {
	if !s.has(int(port)) {
		s.bits[port/64] |= 1 << (port % 64)
		s.n++
	}
}

func (s *portSet) has(port int) bool {
	return port >= 0 && port < 1<<16 && s.bits[port/64]&(1<<(port%64)) != 0
}
