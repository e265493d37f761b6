package dataplane_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"dill/dataplane"
	. "dill/dataplane/dptest"
	"dill/dataplane/route"
)

// noEject keeps every backend in play, so that each connection tries it again.
var noEject = dataplane.Config{EjectAfter: -1}

// several returns n addresses made by f.
func several(t *testing.T, n int, f func(testing.TB) netip.AddrPort) []netip.AddrPort {
	addrs := make([]netip.AddrPort, n)
	for i := range addrs {
		addrs[i] = f(t)
	}
	return addrs
}

// TestRefusedBackendIsSkipped: the next backend gets the connection, with
// everything the client sent meanwhile.
func TestRefusedBackendIsSkipped(t *testing.T) {
	r := start(t, setup{cfg: noEject, dead: several(t, 2, FreeAddr)})
	failed := since("connect_failed")
	for i := range 9 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			client := Dial(t, r.front)
			client.Must(t, Write(1000), HalfClose())
			server := r.backends[0].Accept(t)
			server.Must(t, ReadToEOF(1000), Write(1000), Close())
			client.Must(t, ReadToEOF(1000), Close())
		})
	}
	if failed() == 0 {
		t.Error("no attempt failed: the dead backends were never tried")
	}
}

// TestNoBackendLeft: a client whose connection leads nowhere is reset at once.
func TestNoBackendLeft(t *testing.T) {
	tests := []struct {
		name string
		dead int
	}{
		{"all refuse", 3},
		{"more refuse than are tried", 10},
		{"there is none", 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := start(t, setup{cfg: noEject, backends: -1, dead: several(t, test.dead, FreeAddr)})
			counted := since("refused_nobackend")
			for range 5 {
				begun := time.Now()
				r.rejected(t)
				took(t, "the reset", time.Since(begun), 0, 2*time.Second)
			}
			counts(t, "refused_nobackend", counted, 5)
		})
	}
}

// TestSilentBackendTimesOut: a connect that nobody answers is given up after
// connect_timeout, and the next backend gets the connection; on a loop on which
// nothing else happens.
func TestSilentBackendTimesOut(t *testing.T) {
	const limit = 150 * time.Millisecond
	ofBackend := func(b *route.Backend) { b.ConnectTimeout = limit }
	tests := []struct {
		name  string
		setup setup
	}{
		{"of the config", setup{cfg: dataplane.Config{EjectAfter: -1, Loops: 1, ConnectTimeout: limit}}},
		{"of the backend", setup{cfg: dataplane.Config{EjectAfter: -1, Loops: 1, ConnectTimeout: time.Minute, ConnectTotalTimeout: time.Minute}, backend: ofBackend}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.setup.dead = several(t, 1, SilentAddr)
			r := start(t, test.setup)
			timeouts := since("connect_timeout")
			var slow int
			for range 4 {
				begun := time.Now()
				client, server := r.open(t)
				if d := time.Since(begun); d > limit-10*time.Millisecond {
					slow++
					took(t, "the other backend", d, limit, limit+time.Second)
				}
				Play(t,
					Role{Name: "client", Peer: client, Ops: []Op{Write(10), HalfClose(), ReadToEOF(10), Close()}},
					Role{Name: "server", Peer: server, Ops: []Op{ReadToEOF(10), Write(10), Close()}})
			}
			if slow == 0 || int(timeouts()) != slow {
				t.Errorf("%d of 4 connections took longer, %d timeouts counted", slow, timeouts())
			}
		})
	}
}

// TestConnectIsBounded: tries and time for one client are limited, and it is
// reset when they are used up.
func TestConnectIsBounded(t *testing.T) {
	tests := []struct {
		name     string
		cfg      dataplane.Config
		attempts uint64
		lo, hi   time.Duration
	}{
		{"by tries", dataplane.Config{EjectAfter: -1, ConnectTimeout: 100 * time.Millisecond, ConnectTries: 2}, 2,
			200 * time.Millisecond, 1500 * time.Millisecond},
		{"by time", dataplane.Config{EjectAfter: -1, ConnectTimeout: 10 * time.Second, ConnectTotalTimeout: 250 * time.Millisecond}, 1,
			250 * time.Millisecond, 1500 * time.Millisecond},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := start(t, setup{cfg: test.cfg, backends: -1, dead: several(t, 4, SilentAddr)})
			failed := since("connect_failed")
			begun := time.Now()
			r.rejected(t)
			took(t, "the reset", time.Since(begun), test.lo, test.hi)
			counts(t, "connect_failed", failed, test.attempts)
		})
	}
}

// TestClientResetsDuringConnect: it frees everything at once.
func TestClientResetsDuringConnect(t *testing.T) {
	const clients, loops = 20, 2
	r := start(t, setup{cfg: dataplane.Config{Loops: loops}, backends: -1, dead: several(t, 1, SilentAddr)})
	gone := since("client_gone")
	before := OpenFiles()
	for _, op := range [][]Op{{Reset()}, {Write(100), Reset()}, {HalfClose(), Reset()}} {
		t.Run(Title(op), func(t *testing.T) {
			var peers []*Peer
			for range clients {
				peers = append(peers, Dial(t, r.front))
			}
			Eventually(t, "all are connecting", func() bool { return dataplane.Stats().Sessions == clients })
			for _, p := range peers {
				p.Must(t, op...)
			}
			Within(t, 2*time.Second, "all sessions are gone", func() bool { return dataplane.Stats().Sessions == 0 })
			// Package net may close pipes of its own meanwhile, so fewer are fine;
			// each loop may have taken a descriptor in reserve.
			Eventually(t, "all descriptors are closed", func() bool { return OpenFiles() <= before+loops })
		})
	}
	counts(t, "client_gone", gone, 3*clients)
}

// TestClientEndsDuringConnect: a FIN (nc -N) is no reason to give up; request
// and end reach the backend, its answer the client.
func TestClientEndsDuringConnect(t *testing.T) {
	cfg := dataplane.Config{EjectAfter: -1, ConnectTimeout: 200 * time.Millisecond}
	r := start(t, setup{cfg: cfg, dead: several(t, 1, SilentAddr)})
	timeouts := since("connect_timeout")
	for _, n := range []int64{0, 10, 100_000} {
		for range 2 { // one of two goes to the silent backend first
			r.play(t,
				[]Op{Write(n), HalfClose(), ReadToEOF(n), Close()},
				[]Op{ReadToEOF(n), Write(n), Close()})
		}
	}
	if timeouts() == 0 {
		t.Error("no connect was under way when the client ended")
	}
}

// TestEarlyDataWaits: what a client sends before there is a backend is held up
// in bounded space, and none of it is lost.
func TestEarlyDataWaits(t *testing.T) {
	cfg := dataplane.Config{EjectAfter: -1, ConnectTimeout: 300 * time.Millisecond}
	r := start(t, setup{cfg: cfg, dead: several(t, 1, SilentAddr)})
	timeouts := since("connect_timeout")
	for range 2 { // one of them goes to the silent backend first
		client := Dial(t, r.front)
		client.Must(t, WriteUntilStalled(stalledMax, 50*time.Millisecond))
		server := r.backends[0].Accept(t)
		Play(t,
			Role{Name: "client", Peer: client, Ops: []Op{HalfClose(), ReadToEOF(0), Close()}},
			Role{Name: "server", Peer: server, Ops: []Op{ReadToEOF(client.Sent()), Close()}})
	}
	if timeouts() == 0 {
		t.Error("no connect was under way when the client wrote")
	}
}

// TestConnectRotatesOnFailure: the clients of a dead backend are spread over
// the living ones, not all sent to the one after it.
func TestConnectRotatesOnFailure(t *testing.T) {
	r := start(t, setup{cfg: noEject, backends: 3, serve: names, dead: several(t, 1, FreeAddr)})
	counts := map[string]int{}
	for range 24 {
		counts[r.ask(t)]++
	}
	if len(counts) != 3 || slices.Max([]int{counts["A"], counts["B"], counts["C"]}) > 16 {
		t.Errorf("24 connections went %v", counts)
	}
}
