package dataplane_test

import (
	"net"
	"net/netip"
	"testing"

	"dill/dataplane"
)

// TestLocal: the kernel knows its own addresses, those of no interface too.
func TestLocal(t *testing.T) {
	want := map[netip.Addr]bool{
		netip.MustParseAddr("127.0.0.1"):        true,
		netip.MustParseAddr("127.9.9.9"):        true,
		netip.MustParseAddr("::ffff:127.0.0.1"): true,
		netip.MustParseAddr("192.0.2.1"):        false,
		netip.MustParseAddr("2001:db8::1"):      false,
		{}:                                      false,
	}
	nets, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nets {
		if p, err := netip.ParsePrefix(n.String()); err == nil {
			want[p.Addr()] = true
		}
	}
	for addr, want := range want {
		if got, err := dataplane.Local(addr); got != want || err != nil {
			t.Errorf("%v: %v, %v; want %v", addr, got, err, want)
		}
	}
}
