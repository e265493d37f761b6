package compile

import (
	"net/netip"
	"slices"
)

// targets resolves a host and a port to addresses to connect to, at least one,
// or says why there is none.
func (c *compiler) targets(host string, port int) (addrs []netip.AddrPort, why string) {
	if port < 1 || port > 65535 {
		return nil, reason("port %d; want 1 to 65535", port)
	}
	var room [1]netip.Addr
	ips := room[:]
	if ip, err := netip.ParseAddr(host); err == nil {
		ips[0] = ip
	} else {
		switch {
		case host == "":
			return nil, "no address"
		case c.in.Hosts == nil:
			return nil, reason("%s is no IP address", show(host))
		}
		if ips, err = c.in.Hosts(host); err != nil {
			return nil, reason("host %s: %s", show(host), show(err.Error()))
		}
	}
	addrs = make([]netip.AddrPort, 0, len(ips))
	for _, ip := range ips {
		ip = ip.Unmap()
		switch {
		case !ip.IsValid():
		case ip.Zone() != "":
			why = reason("%s: addresses with a zone are not supported", show(host))
		case ip.IsMulticast():
			why = reason("%s: a multicast address", show(host))
		default:
			addrs = append(addrs, netip.AddrPortFrom(ip, uint16(port)))
		}
	}
	switch {
	case len(addrs) > 0:
		return addrs, ""
	case why == "":
		why = reason("host %s has no address", show(host))
	}
	return nil, why
}

// loop reports whether connecting to any of the addresses would reach dill
// itself, and where.
func (c *compiler) loop(addrs []netip.AddrPort) (own netip.AddrPort, is bool) {
	for _, a := range addrs {
		for _, own := range c.served[a.Port()] {
			if c.reaches(a.Addr(), own.Addr()) {
				return own, true
			}
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
	switch {
	case dst == own:
		return true
	case !own.IsUnspecified() || own.Is4() != dst.Is4():
		return false
	}
	return dst.IsLoopback() || slices.ContainsFunc(c.LocalAddrs, func(a netip.Addr) bool {
		return a.Unmap().WithZone("") == dst
	})
}

func loopback(unspecified netip.Addr) netip.Addr {
	if unspecified.Is4() {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.IPv6Loopback()
}
