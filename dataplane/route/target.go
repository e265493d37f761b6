package route

import (
	"cmp"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Target is what connections to b are for: "10.0.0.7:5432", or
// "db.internal:5432" where the proxy is asked for a name.
func (b *Backend) Target() string {
	if b.Host == "" {
		return b.Addr.String()
	}
	return net.JoinHostPort(b.Host, strconv.Itoa(int(b.Addr.Port())))
}

// CompareTarget orders backends by their targets, and by the proxies to them: an
// address or a name behind one proxy is not that behind another. Two with one
// target are one backend: a listener has one of them, and it inherits the
// other's state.
func (b *Backend) CompareTarget(o *Backend) int {
	if n := b.Addr.Compare(o.Addr); n != 0 {
		return n
	}
	return cmp.Or(strings.Compare(b.Host, o.Host), b.via().Compare(o.via()))
}

// sameTarget is CompareTarget without an order.
func (b *Backend) sameTarget(o *Backend) bool {
	return b.Addr == o.Addr && b.Host == o.Host && b.via() == o.via()
}

// via is where the proxy to b is, zero = none.
func (b *Backend) via() netip.AddrPort {
	if b.Socks == nil {
		return netip.AddrPort{}
	}
	return b.Socks.Addr
}

// hash mixes b's target and a seed into 64 bits, see hashAddr.
func (b *Backend) hash(seed uint64) uint64 {
	h := hashAddr(b.Addr.Addr(), seed+uint64(b.Addr.Port()))
	for i := range len(b.Host) {
		h = mix(h^uint64(b.Host[i]), 0x9e3779b97f4a7c15)
	}
	if b.Socks != nil {
		h = mix(h^hashAddr(b.Socks.Addr.Addr(), uint64(b.Socks.Addr.Port())), 0x9e3779b97f4a7c15)
	}
	return h
}
