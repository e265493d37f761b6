package route

import (
	"net"
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

// CompareTarget orders backends by their targets. Two with one target are one
// backend: a listener has one of them, and it inherits the other's state.
func (b *Backend) CompareTarget(o *Backend) int {
	if n := b.Addr.Compare(o.Addr); n != 0 {
		return n
	}
	return strings.Compare(b.Host, o.Host)
}

// sameTarget is CompareTarget without an order.
func (b *Backend) sameTarget(o *Backend) bool { return b.Addr == o.Addr && b.Host == o.Host }

// hash mixes b's target and a seed into 64 bits, see hashAddr.
func (b *Backend) hash(seed uint64) uint64 {
	h := hashAddr(b.Addr.Addr(), seed+uint64(b.Addr.Port()))
	for i := range len(b.Host) {
		h = mix(h^uint64(b.Host[i]), 0x9e3779b97f4a7c15)
	}
	return h
}
