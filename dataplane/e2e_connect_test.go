package dataplane_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
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
			if counted() != 5 {
				t.Errorf("refused_nobackend counted %d, want 5", counted())
			}
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
		name   string
		cfg    dataplane.Config
		lo, hi time.Duration
	}{
		{"by tries", dataplane.Config{EjectAfter: -1, ConnectTimeout: 100 * time.Millisecond, ConnectTries: 2},
			200 * time.Millisecond, 1500 * time.Millisecond},
		{"by time", dataplane.Config{EjectAfter: -1, ConnectTimeout: 10 * time.Second, ConnectTotalTimeout: 250 * time.Millisecond},
			250 * time.Millisecond, 1500 * time.Millisecond},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := start(t, setup{cfg: test.cfg, backends: -1, dead: several(t, 4, SilentAddr)})
			begun := time.Now()
			r.rejected(t)
			took(t, "the reset", time.Since(begun), test.lo, test.hi)
		})
	}
}

// TestClientResetsDuringConnect: it frees everything at once.
func TestClientResetsDuringConnect(t *testing.T) {
	const clients = 20
	r := start(t, setup{backends: -1, dead: several(t, 1, SilentAddr)})
	gone := since("client_gone")
	before := OpenFiles()
	for _, op := range [][]Op{{Reset()}, {Write(100), Reset()}, {HalfClose(), Reset()}} {
		t.Run(Title(op), func(t *testing.T) {
			var peers []*Peer
			for range clients {
				peers = append(peers, Dial(t, r.front))
			}
			Eventually(t, "all are connecting", func() bool { return OpenFiles() == before+3*clients })
			for _, p := range peers {
				p.Must(t, op...)
			}
			Within(t, 2*time.Second, "all descriptors are closed", func() bool { return OpenFiles() == before })
		})
	}
	if gone() != 3*clients {
		t.Errorf("client_gone counted %d, want %d", gone(), 3*clients)
	}
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

// TestEarlyDataWaits: what a client sends before there is a backend is not
// read without bound, and none of it is lost.
func TestEarlyDataWaits(t *testing.T) {
	backend := ListenOn(t, FreeAddr(t), Socket{}, nil)
	backend.Stop()
	cfg := dataplane.Config{EjectAfter: -1, ConnectTimeout: 300 * time.Millisecond, ConnectTries: 2}
	r := start(t, setup{cfg: cfg, backends: -1, dead: several(t, 1, SilentAddr)})
	client := Dial(t, r.front)
	client.Must(t, WriteUntilStalled(stalledMax, 100*time.Millisecond))
	r.setup.dead = []netip.AddrPort{backend.Addr()}
	backend.Start(t)
	r.swap(r.listener())
	// Whether the second attempt finds the new backend is the engine's choice;
	// the client must be told either way.
	select {
	case server := <-backend.Queue():
		client.Must(t, HalfClose())
		server.Must(t, ReadToEOF(client.Sent()), Close())
		client.Must(t, ReadToEOF(0), Close())
	case <-time.After(time.Second):
		client.Must(t, ReadToReset(0))
	}
}

// TestReuseAddrOfSourcePort: a listener opens on an address that is in use as
// the source of one of dill's own connections to a backend.
func TestReuseAddrOfSourcePort(t *testing.T) {
	r := start(t, setup{})
	client, server := r.open(t)
	source := server.Remote()
	other := Serve(t, Say("hello"))
	r.publish(t, r.listener(), serving(source, other.Addr()))
	if got, err := Ask(source); got != "hello" {
		t.Errorf("the listener on the source port says %q, %v", got, err)
	}
	Play(t,
		Role{Name: "client", Peer: client, Ops: []Op{Write(1000), HalfClose(), ReadToEOF(1000)}},
		Role{Name: "server", Peer: server, Ops: []Op{ReadToEOF(1000), Write(1000), Close()}})
}

// aloneTask is what a test asks of the "alone" process, which lives in a
// network namespace with a single source port.
type aloneTask struct{ Do string }

// aloneDone is what came of it.
type aloneDone struct {
	Err   string // "" = everything as expected
	Stats dataplane.Snapshot
}

// playAlone runs an engine where the kernel has only one source port to give.
func playAlone(parent *Parent) {
	const only = 40_000
	if err := RaiseLoopback(); err != nil {
		Die("start", err)
	}
	err := os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", fmt.Appendf(nil, "%d %d", only, only), 0)
	if err != nil {
		Die("narrow the port range", err)
	}
	e, err := dataplane.New(dataplane.Config{Loops: 1, EjectAfter: 1}, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		Die("start engine", err)
	}
	local := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	front := netip.AddrPortFrom(local, 2000)
	scenes := map[string]func() error{
		// The backend is dead, and its port is the one that connect(2) gives
		// the new socket: TCP's simultaneous open with itself succeeds.
		"self-connect": func() error {
			aloneServe(e, front, netip.AddrPortFrom(local, only))
			return alonePlay(front, 3000, ReadToReset(0))
		},
		// The one source port is taken by the first session: the second
		// cannot be made, for which the backend is not to blame.
		"no source port": func() error {
			backend := netip.AddrPortFrom(local, 2001)
			if err := echoOn(backend); err != nil {
				return err
			}
			aloneServe(e, front, backend)
			first, err := Connect(front, Socket{Local: netip.AddrPortFrom(local, 3001)})
			if err != nil {
				return err
			}
			if err := roundTrip(first, make([]byte, 10)); err != nil {
				return fmt.Errorf("first session: %w", err)
			}
			if err := alonePlay(front, 3002, ReadToReset(0)); err != nil {
				return fmt.Errorf("second session: %w", err)
			}
			if err := first.Reset(); err != nil {
				return err
			}
			if !Poll(Patience, func() bool { return dataplane.Stats().Sessions == 0 }) {
				return fmt.Errorf("the first session does not end")
			}
			third, err := Connect(front, Socket{Local: netip.AddrPortFrom(local, 3003)})
			if err != nil {
				return err
			}
			defer third.Reset()
			if err := roundTrip(third, make([]byte, 10)); err != nil {
				return fmt.Errorf("third session: %w", err)
			}
			return nil
		},
	}
	var task aloneTask
	for parent.Hear(&task) {
		var done aloneDone
		if err := scenes[task.Do](); err != nil {
			done.Err = err.Error()
		}
		done.Stats = dataplane.Stats()
		parent.Tell(done)
	}
}

func aloneServe(e *dataplane.Engine, front netip.AddrPort, backends ...netip.AddrPort) {
	e.Publish(newTable(nil, serving(front, backends...)))
	if !Poll(Patience, func() bool { err, ok := e.Listening()[front]; return ok && err == nil }) {
		Die("listen", e.Listening()[front])
	}
}

func alonePlay(front netip.AddrPort, port uint16, ops ...Op) error {
	p, err := Connect(front, Socket{Local: netip.AddrPortFrom(front.Addr(), port)})
	if err != nil {
		return err
	}
	defer p.Reset()
	return p.Run(ops...)
}

// TestSelfConnectIsRefused: a connection of a socket to itself counts as a
// refused backend.
func TestSelfConnectIsRefused(t *testing.T) {
	child := SpawnIsolated(t, "alone")
	var done aloneDone
	child.Tell(t, aloneTask{"self-connect"})
	child.Hear(t, &done)
	if done.Err != "" {
		t.Error(done.Err)
	}
	if done.Stats.Get("connect_self") == 0 {
		t.Errorf("no self-connect counted:\n%v", done.Stats)
	}
}

// TestNoSourcePortIsNotTheBackendsFault: EADDRNOTAVAIL ejects nobody.
func TestNoSourcePortIsNotTheBackendsFault(t *testing.T) {
	child := SpawnIsolated(t, "alone")
	var done aloneDone
	child.Tell(t, aloneTask{"no source port"})
	child.Hear(t, &done)
	if done.Err != "" {
		t.Error(done.Err)
	}
	if done.Stats.Get("connect_local") == 0 || done.Stats.Get("ejections") != 0 {
		t.Errorf("connect_local and ejections are %d and %d:\n%v",
			done.Stats.Get("connect_local"), done.Stats.Get("ejections"), done.Stats)
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
