package main

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"dill/dataplane"
)

// addressesEvery is how often the addresses of this host are read.
const addressesEvery = time.Second

// host knows which addresses are this host's own. They may come and go: a
// virtual address that moves here turns a backend into a listener of dill's.
type host struct {
	log  *slog.Logger
	read func() ([]net.Addr, error)     // net.InterfaceAddrs
	ask  func(netip.Addr) (bool, error) // dataplane.Local

	mu    sync.Mutex
	addrs []netip.Addr        // of the interfaces, sorted
	known map[netip.Addr]bool // what ask said since addrs changed
	fails bool                // the last reading did
}

func newHost(log *slog.Logger) *host {
	h := &host{log: log, read: net.InterfaceAddrs, ask: dataplane.Local, known: make(map[netip.Addr]bool)}
	h.look()
	return h
}

// local reports whether a connection to addr stays on this host. The kernel
// decides, which routes more to itself than the addresses of its interfaces.
func (h *host) local(addr netip.Addr) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	is, known := h.known[addr]
	if !known {
		var err error
		if is, err = h.ask(addr); err != nil {
			_, is = slices.BinarySearchFunc(h.addrs, addr, netip.Addr.Compare)
		}
		h.known[addr] = is
	}
	return is
}

// watch calls changed whenever the addresses have, until ctx ends.
func (h *host) watch(ctx context.Context, changed func()) {
	tick := time.NewTicker(addressesEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if h.look() {
				changed()
			}
		}
	}
}

// look reads the addresses and reports whether they have changed. Without them,
// or without netlink, a backend that is one of dill's own listeners may go
// unnoticed, which is no reason to serve nothing.
func (h *host) look() bool {
	nets, err := h.read()
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		if !h.fails {
			h.log.Warn("own addresses not known", keyErr, err)
		}
		h.fails = true
		return false
	}
	h.fails = false
	addrs := make([]netip.Addr, 0, len(nets))
	for _, n := range nets {
		if p, err := netip.ParsePrefix(n.String()); err == nil {
			addrs = append(addrs, p.Addr().Unmap())
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	if slices.Equal(addrs, h.addrs) {
		return false
	}
	h.addrs, h.known = addrs, make(map[netip.Addr]bool)
	return true
}
