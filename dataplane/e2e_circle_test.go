package dataplane_test

import (
	"net"
	"net/netip"
	"testing"

	. "dill/dataplane/dptest"
)

// own lists addresses at which a listener on 0.0.0.0 is reached.
func own(t *testing.T) []netip.Addr {
	t.Helper()
	all := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.7.7.7"), netip.IPv4Unspecified()}
	nets, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nets {
		if p, err := netip.ParsePrefix(n.String()); err == nil && p.Addr().Is4() && !p.Addr().IsLoopback() {
			all = append(all, p.Addr())
		}
	}
	return all
}

// TestBackendThatLeadsBackIsSkipped: a backend that is a listener of dill's own
// gets no connection, whatever the table says; the next one does.
func TestBackendThatLeadsBackIsSkipped(t *testing.T) {
	r := start(t, setup{cfg: noEject})
	port := FreeAddr(t).Port()
	for _, addr := range own(t) {
		t.Run(addr.String(), func(t *testing.T) {
			circle := netip.AddrPortFrom(addr, port)
			anywhere := netip.AddrPortFrom(netip.IPv4Unspecified(), port)
			r.publish(t, serving(r.front, circle, r.backends[0].Addr()), serving(anywhere, circle))
			accepted, back, refused := since("accepted"), since("connect_circle"), since("refused_nobackend")
			for range 10 {
				client, server := r.open(t)
				client.Must(t, Write(1000))
				server.Must(t, Read(1000), Reset())
				client.Must(t, ReadToReset(0), Close())
			}
			if back() == 0 || accepted() != 10 {
				t.Errorf("%d turned back, %d accepted of 10", back(), accepted())
			}
			// Nothing but the circle is behind the other.
			if err := Rejected(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port), Socket{}); err != nil {
				t.Error(err)
			}
			if accepted() != 11 || refused() != 1 {
				t.Errorf("one client made %d connections, %d were refused", accepted()-10, refused())
			}
		})
	}
}

// TestBackendWithAListenersPortElsewhere is one like any other.
func TestBackendWithAListenersPortElsewhere(t *testing.T) {
	r := start(t, setup{})
	port := r.backends[0].Addr().Port()
	// A listener of that port on another address of the loopback network.
	r.publish(t, serving(r.front, r.backends[0].Addr()), serving(netip.AddrPortFrom(FreeAddr(t).Addr().Next(), port), r.backends[0].Addr()))
	for range 10 {
		_, server := r.open(t)
		server.Must(t, Reset())
	}
}
