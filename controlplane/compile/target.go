package compile

import (
	"errors"
	"net/netip"

	"dill/controlplane/mask"
	"dill/controlplane/resolve"
)

// targets appends to addrs where a host and a port are to be reached, at least
// one address, or says why there is none.
func (c *compiler) targets(addrs []netip.AddrPort, host string, port int) (_ []netip.AddrPort, why string) {
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip, why = unicast(ip); why == "" {
			why = badPort(port)
		}
		if why == "" {
			addrs = append(addrs, netip.AddrPortFrom(ip, uint16(port)))
		}
		return addrs, why
	}
	switch {
	case host == "":
		return addrs, "no address"
	case !resolve.ValidName(host):
		return addrs, reason("%s is neither an IP address nor a host name", show(mask.Address(host)))
	}
	if why := badPort(port); why != "" {
		return addrs, why
	}
	c.named = true
	if c.in.Hosts == nil {
		return addrs, reason("%s is no IP address", show(host))
	}
	ips, err := c.in.Hosts(host)
	if err != nil {
		if errors.Is(err, resolve.ErrPending) {
			c.pending = host
		}
		return addrs, reason("host %s: %s", show(host), show(err.Error()))
	}
	before := len(addrs)
	why = "no address"
	for _, ip := range ips {
		if ip, not := unicast(ip); not == "" {
			addrs = append(addrs, netip.AddrPortFrom(ip, uint16(port)))
		} else {
			why = not
		}
	}
	if len(addrs) > before {
		return addrs, ""
	}
	return addrs, reason("host %s: %s", show(host), why)
}

// badPort is why a port cannot be connected to, "" if it can.
func badPort(port int) string {
	if port < 1 || port > 65535 {
		return reason("port %d; want 1 to 65535", port)
	}
	return ""
}

// unicast returns the address that ip is to be reached at, or why it cannot be.
func unicast(ip netip.Addr) (_ netip.Addr, why string) {
	ip = ip.Unmap()
	switch {
	case !ip.IsValid():
		why = "no address"
	case ip.Zone() != "":
		why = "addresses with a zone are not supported"
	case ip.IsMulticast():
		why = "a multicast address"
	}
	return ip, why
}

// loop reports whether connecting to any of the addresses, for a client of cl,
// would reach dill itself, and where: at what it listens on, or at cl's own
// address, which it is about to. Other claims that are not bound take nothing
// away: they may never be, because what stands there is a backend.
func (c *compiler) loop(cl *claim, addrs []netip.AddrPort) (own netip.AddrPort, is bool) {
	for _, a := range addrs {
		c.dialled = append(c.dialled, a.Port())
		if own, is = c.caught(a); is {
			return own, true
		}
		if a.Port() == cl.addr.Port() && c.reaches(a.Addr(), cl.addr.Addr()) {
			return cl.addr, true
		}
	}
	return netip.AddrPort{}, false
}

// caught reports whether a connection to a reaches what dill listens on, and
// where.
func (c *compiler) caught(a netip.AddrPort) (own netip.AddrPort, is bool) {
	for _, own := range c.own[a.Port()] {
		if c.reaches(a.Addr(), own.Addr()) {
			return own, true
		}
	}
	return netip.AddrPort{}, false
}

// reaches reports whether a connection from this host to dst arrives at a
// socket bound to own, the ports being equal.
func (c *compiler) reaches(dst, own netip.Addr) bool {
	// Linux takes a connection to 0.0.0.0 or [::] to the loopback address.
	if dst.IsUnspecified() {
		dst = loopback(dst)
	}
	return dst == own || own.IsUnspecified() && own.Is4() == dst.Is4() && c.here(dst)
}

// here reports whether a connection to dst arrives at this host.
func (c *compiler) here(dst netip.Addr) bool {
	if dst.IsUnspecified() || dst.IsLoopback() {
		return true
	}
	c.asked = true
	return c.Local != nil && c.Local(dst)
}

func loopback(unspecified netip.Addr) netip.Addr {
	if unspecified.Is4() {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.IPv6Loopback()
}
