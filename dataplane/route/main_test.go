package route

import (
	"fmt"
	"net/netip"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var addrA = netip.MustParseAddrPort("127.0.0.1:5000")

// backends returns one backend for each weight, at 10.0.x.y:80 in order.
func backends(weights ...int) []*Backend {
	bs := make([]*Backend, len(weights))
	for i, w := range weights {
		ip := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		bs[i] = &Backend{Addr: netip.AddrPortFrom(ip, 80), Instance: fmt.Sprint("i", i), Weight: w}
	}
	return bs
}

// equal returns n weights of 1.
func equal(n int) []int {
	w := make([]int, n)
	for i := range w {
		w[i] = 1
	}
	return w
}

// listener returns a listener in a table of its own.
func listener(s Strategy, weights ...int) *Listener {
	t := NewTable(1, []*Listener{{Addr: addrA, Strategy: s, Backends: backends(weights...)}}, nil, nil)
	return t.Listeners[0]
}

// client returns the i-th of many addresses.
func client(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{192, byte(i >> 16), byte(i >> 8), byte(i)})
}

// pick picks once for a fresh connection and returns the backend's index.
func pick(l *Listener, now int64, c netip.Addr) int {
	var tried Tried
	b := l.Pick(now, c, &tried)
	for i := range l.Backends {
		if l.Backends[i] == b {
			return i
		}
	}
	return -1
}
