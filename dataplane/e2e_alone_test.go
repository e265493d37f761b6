package dataplane_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"testing"

	"dill/dataplane"
	. "dill/dataplane/dptest"
	"dill/dataplane/route"
)

// The tests of this file run an engine in a network namespace where the kernel
// has a single source port to give, so that what otherwise happens once in
// thousands of connections happens at once.

// The addresses of that world. Clients bind to ports of their own, so that the
// only ephemeral one is left to dill.
var (
	aloneFront   = netip.MustParseAddrPort("127.0.0.1:2000")
	aloneBackend = netip.MustParseAddrPort("127.0.0.1:2001")
	aloneSecond  = netip.MustParseAddrPort("127.0.0.1:2002")
	aloneSource  = netip.MustParseAddrPort("127.0.0.1:40000")
)

// aloneDone is what came of a scene.
type aloneDone struct {
	Err   string // "" = everything as expected
	Stats dataplane.Snapshot
}

// alone plays one scene in a namespace of its own and returns the counters.
func alone(t *testing.T, scene string) dataplane.Snapshot {
	t.Helper()
	child := SpawnIsolated(t, "alone")
	var done aloneDone
	child.Tell(t, scene)
	child.Hear(t, &done)
	if done.Err != "" {
		t.Errorf("%s\n%v", done.Err, done.Stats)
	}
	return done.Stats
}

// scenes are what the child can play.
var scenes = map[string]func(*loner) error{
	// The backend is dead, and its port is the one that connect(2) gives the
	// new socket: TCP's simultaneous open with itself succeeds.
	"self-connect": func(l *loner) error {
		l.serve(serving(aloneFront, aloneSource))
		return l.rejected(aloneFront)
	},
	// The one source port is taken towards both backends, so that a third
	// session cannot be made, whichever it is; the fourth can, once the others
	// are over.
	"no source port": func(l *loner) error {
		l.serve(serving(aloneFront, aloneBackend, aloneSecond))
		var held []*Peer
		for range 2 {
			p, err := l.echo(aloneFront)
			if err != nil {
				return fmt.Errorf("first sessions: %w", err)
			}
			held = append(held, p)
		}
		if err := l.rejected(aloneFront); err != nil {
			return fmt.Errorf("third session: %w", err)
		}
		for _, p := range held {
			if err := p.Reset(); err != nil {
				return err
			}
		}
		if !Poll(Patience, func() bool { return dataplane.Stats().Sessions == 0 }) {
			return errors.New("the first sessions do not end")
		}
		if _, err := l.echo(aloneFront); err != nil {
			return fmt.Errorf("fourth session: %w", err)
		}
		return nil
	},
	// There is no route to the first backend.
	"unreachable": func(l *loner) error {
		l.serve(serving(aloneFront, netip.MustParseAddrPort("10.1.2.3:80"), aloneBackend))
		for range 2 { // one of two goes there first
			session, err := l.echo(aloneFront)
			if err != nil {
				return err
			}
			if err := session.Reset(); err != nil {
				return err
			}
			if !Poll(Patience, func() bool { return dataplane.Stats().Sessions == 0 }) {
				return errors.New("the session does not end")
			}
		}
		l.serve(serving(aloneFront, netip.MustParseAddrPort("10.1.2.3:80")))
		return l.rejected(aloneFront)
	},
	// A service claims the port that dill uses as source of a connection.
	"listen on source port": func(l *loner) error {
		l.serve(serving(aloneFront, aloneBackend))
		session, err := l.echo(aloneFront)
		if err != nil {
			return err
		}
		l.serve(serving(aloneFront, aloneBackend), serving(aloneSource))
		if err := l.rejected(aloneSource); err != nil { // it has no backend
			return fmt.Errorf("new listener: %w", err)
		}
		return roundTrip(session, make([]byte, 10))
	},
}

// loner is the child's engine and the next client port.
type loner struct {
	engine *dataplane.Engine
	table  *route.Table
	port   uint16
}

func playAlone(parent *Parent) {
	if err := RaiseLoopback(); err != nil {
		Die("start", err)
	}
	only := aloneSource.Port()
	err := os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", fmt.Appendf(nil, "%d %d", only, only), 0)
	if err != nil {
		Die("narrow the port range", err)
	}
	for _, addr := range []netip.AddrPort{aloneBackend, aloneSecond} {
		if err := echoOn(addr, false); err != nil {
			Die("start backend", err)
		}
	}
	e, err := dataplane.New(dataplane.Config{Loops: 1, EjectAfter: 1}, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		Die("start engine", err)
	}
	l := &loner{engine: e, port: 3000}
	var scene string
	for parent.Hear(&scene) {
		var done aloneDone
		if err := scenes[scene](l); err != nil {
			done.Err = err.Error()
		}
		done.Stats = dataplane.Stats()
		parent.Tell(done)
	}
}

// serve publishes listeners and waits until all accept.
func (l *loner) serve(listeners ...*route.Listener) {
	l.table = newTable(l.table, listeners...)
	l.engine.Publish(l.table)
	for _, ln := range listeners {
		if !Poll(Patience, func() bool { err, ok := l.engine.Listening()[ln.Addr]; return ok && err == nil }) {
			Die("listen", l.engine.Listening()[ln.Addr])
		}
	}
}

// client is the socket of the next client.
func (l *loner) client() Socket {
	l.port++
	return Socket{Local: netip.AddrPortFrom(aloneFront.Addr(), l.port)}
}

func (l *loner) rejected(addr netip.AddrPort) error { return Rejected(addr, l.client()) }

// echo opens a session and moves a few bytes through it.
func (l *loner) echo(addr netip.AddrPort) (*Peer, error) {
	p, err := Connect(addr, l.client())
	if err != nil {
		return nil, err
	}
	return p, roundTrip(p, make([]byte, 10))
}

// TestSelfConnectIsRefused: a connection of a socket to itself counts as a
// refused backend.
func TestSelfConnectIsRefused(t *testing.T) {
	if stats := alone(t, "self-connect"); stats.Get("connect_self") == 0 {
		t.Errorf("no self-connect counted:\n%v", stats)
	}
}

// TestNoSourcePortIsNotTheBackendsFault: EADDRNOTAVAIL ejects nobody.
func TestNoSourcePortIsNotTheBackendsFault(t *testing.T) {
	stats := alone(t, "no source port")
	if stats.Get("connect_local") == 0 || stats.Get("ejections") != 0 {
		t.Errorf("connect_local and ejections are %d and %d", stats.Get("connect_local"), stats.Get("ejections"))
	}
}

// TestReuseAddrOfSourcePort: a listener opens on an address that is in use as
// the source of one of dill's own connections to a backend.
func TestReuseAddrOfSourcePort(t *testing.T) {
	alone(t, "listen on source port")
}

// TestUnreachableBackendIsSkipped: what the kernel knows to be unreachable is a
// backend like one that refuses.
func TestUnreachableBackendIsSkipped(t *testing.T) {
	if stats := alone(t, "unreachable"); stats.Get("connect_failed") == 0 {
		t.Errorf("no attempt failed:\n%v", stats)
	}
}
