package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
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

// The addresses are read every second, and told of only when they change. The
// kernel is asked once for each, until then.
func TestHostAddressesAreReadEverySecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(transcript)
		h := newHost(slog.New(slog.NewTextHandler(log, nil)))
		var (
			nets         []net.Addr
			failure      error
			asked, reads int
			changes      int
			routed       = map[netip.Addr]bool{}
			vip          = netip.MustParseAddr("192.0.2.7")
			ctx, cancel  = context.WithCancel(t.Context())
			unable       error
		)
		h.read = func() ([]net.Addr, error) { reads++; return nets, failure }
		h.ask = func(a netip.Addr) (bool, error) { asked++; return routed[a], unable }
		nets = prefixes("127.0.0.1/8", "192.0.2.1/24")
		h.look()
		done := make(chan struct{})
		go func() { defer close(done); h.watch(ctx, func() { changes++ }) }()
		after := func(d time.Duration) {
			time.Sleep(d)
			synctest.Wait()
		}
		after(10 * time.Second)
		if reads < 10 || changes != 0 {
			t.Errorf("%d readings, %d changes in 10 s", reads, changes)
		}
		for range 3 {
			if h.local(vip) {
				t.Error("local before it came")
			}
		}
		if asked != 1 {
			t.Errorf("asked %d times", asked)
		}
		nets, routed[vip] = prefixes("192.0.2.1/24", "192.0.2.7/32", "127.0.0.1/8"), true
		after(time.Second)
		if changes != 1 || !h.local(vip) {
			t.Errorf("%d changes; local: %v", changes, h.local(vip))
		}
		// Another order is no change, and a failure proves nothing.
		nets = prefixes("127.0.0.1/8", "192.0.2.1/24", "192.0.2.7/32")
		after(time.Second)
		failure = errors.New("no netlink")
		after(10 * time.Second)
		if n := strings.Count(log.String(), "own addresses not known"); changes != 1 || n != 1 || !h.local(vip) {
			t.Errorf("%d changes, %d complaints", changes, n)
		}
		// Without an answer of the kernel the interfaces decide.
		unable = errors.New("no netlink")
		if !h.local(netip.MustParseAddr("192.0.2.1")) || h.local(netip.MustParseAddr("192.0.2.2")) {
			t.Error("the addresses of the interfaces do not count")
		}
		cancel()
		<-done
	})
}
