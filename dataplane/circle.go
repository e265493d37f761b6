package dataplane

import (
	"net/netip"

	"dill/dataplane/internal/sys"
)

// leadsBack reports whether a connection to addr would end at a listener of
// dill's own. The control plane leaves out the backends that it knows to do so;
// a route or an address may have come to this host since.
//
// It is asked before the attempt, not after: a connection that is made waits in
// the listener's queue already, and is the next turn of the circle. Only for a
// backend whose port is a wildcard listener's the kernel is asked, which answers
// at once.
func (l *loop) leadsBack(addr netip.AddrPort) bool {
	dst, wildcard := addr.Addr(), netip.IPv6Unspecified()
	here := netip.IPv6Loopback() // where Linux takes a connection to no address
	if dst.Is4() {
		wildcard, here = netip.IPv4Unspecified(), netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	if dst.IsUnspecified() {
		dst = here
	}
	switch {
	case l.byAddr[netip.AddrPortFrom(dst, addr.Port())] != nil:
		return true
	case l.byAddr[netip.AddrPortFrom(wildcard, addr.Port())] == nil:
		return false
	case dst.IsLoopback():
		return true
	}
	if l.routes == nil {
		return false
	}
	to, e := l.routes.To(dst)
	return e == 0 && to.Local
}

// turnBack gives up an attempt that would lead back to dill.
func (l *loop) turnBack(s *session) {
	l.stats.LedBack.Add(1)
	l.attemptFailed(s, sys.ELOOP)
}

// selfConnected reports whether the connection of fd, to this address, has met
// itself in the middle: the kernel chose the address as its source, too.
func (l *loop) selfConnected(to netip.AddrPort, fd int32) bool {
	if !l.engine.ephemeral.has(to.Port()) {
		return false // the kernel never picks that source port
	}
	return sys.LocalAddr(fd, &l.sa) == netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
}
