package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func prefixes(all ...string) (nets []net.Addr) {
	for _, s := range all {
		p := netip.MustParsePrefix(s)
		nets = append(nets, &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())})
	}
	return nets
}

// network is a host's, scripted.
type network struct {
	mu      sync.Mutex
	nets    []net.Addr
	routed  map[netip.Addr]bool
	failure error // of reading the addresses
	silence error // of asking for a route
	read    int
	asked   int
	changes int
}

// change changes something while others may look.
func (n *network) change(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
}

func (n *network) addrs() ([]net.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.read++
	return n.nets, n.failure
}

func (n *network) local(a netip.Addr) (bool, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked++
	return n.routed[a], n.silence
}

// The addresses are read every second, and told of only when they change. The
// kernel is asked once for each, until then.
func TestHostAddressesAreReadEverySecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, n := new(transcript), &network{nets: prefixes("127.0.0.1/8", "192.0.2.1/24"), routed: make(map[netip.Addr]bool)}
		h := newHost(slog.New(slog.NewTextHandler(log, nil)))
		h.read, h.ask = n.addrs, n.local
		h.look()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			h.watch(ctx, func() { n.change(func() { n.changes++ }) })
		}()
		after := func(d time.Duration) {
			time.Sleep(d)
			synctest.Wait()
			n.mu.Lock()
			defer n.mu.Unlock()
		}
		vip := netip.MustParseAddr("192.0.2.7")
		after(10 * time.Second)
		if n.read < 10 || n.changes != 0 {
			t.Errorf("%d readings, %d changes in 10 s", n.read, n.changes)
		}
		for range 3 {
			if h.local(vip) {
				t.Error("local before it came")
			}
		}
		if n.asked != 1 {
			t.Errorf("asked %d times", n.asked)
		}
		n.change(func() {
			n.nets, n.routed[vip] = prefixes("192.0.2.1/24", "192.0.2.7/32", "127.0.0.1/8"), true
		})
		after(time.Second)
		if n.changes != 1 || !h.local(vip) {
			t.Errorf("%d changes; local: %v", n.changes, h.local(vip))
		}
		// Another order is no change, and a failure proves nothing.
		n.change(func() { n.nets = prefixes("127.0.0.1/8", "192.0.2.1/24", "192.0.2.7/32") })
		after(time.Second)
		n.change(func() { n.failure = errors.New("no netlink") })
		after(10 * time.Second)
		if said := strings.Count(log.String(), "own addresses not known"); n.changes != 1 || said != 1 || !h.local(vip) {
			t.Errorf("%d changes, %d complaints", n.changes, said)
		}
		// Without an answer of the kernel the interfaces decide.
		n.change(func() { n.silence = errors.New("no netlink") })
		if !h.local(netip.MustParseAddr("192.0.2.1")) || h.local(netip.MustParseAddr("192.0.2.2")) {
			t.Error("the addresses of the interfaces do not count")
		}
		cancel()
		<-done
	})
}
