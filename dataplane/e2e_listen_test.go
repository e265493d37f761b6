package dataplane_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"dill/dataplane"
	. "dill/dataplane/dptest"
	"dill/dataplane/route"
)

// TestListenersOpenAndClose: a published address accepts, a removed one
// refuses, and its neighbours do not notice.
func TestListenersOpenAndClose(t *testing.T) {
	const n = 100
	r := start(t, setup{serve: names})
	table := []*route.Listener{r.listener()}
	for range n {
		table = append(table, serving(FreeAddr(t), r.backends[0].Addr()))
	}
	begun := time.Now()
	r.publish(t, table...)
	took(t, "opening 100 listeners", time.Since(begun), 0, time.Second)
	for _, ln := range table {
		if got, err := Ask(ln.Addr); got != "A" {
			t.Errorf("%v answers %q, %v", ln.Addr, got, err)
		}
	}
	closed := table[1:]
	files := OpenFiles()
	r.publish(t, r.listener())
	for _, ln := range []*route.Listener{closed[0], closed[n-1]} {
		Eventually(t, "the listener is closed", func() bool { return !Listening(t, ln.Addr) })
	}
	Eventually(t, "its descriptors are, too", func() bool { return OpenFiles() <= files-n })
	if len(r.engine.Listening()) != 1 {
		t.Errorf("%d listeners shown, want 1", len(r.engine.Listening()))
	}
	if got := r.ask(t); got != "A" {
		t.Errorf("the one that stayed answers %q", got)
	}
}

// TestListenerIPv6: a listener and a backend on IPv6.
func TestListenerIPv6(t *testing.T) {
	backend := ListenOn(t, FreeAddr6(t), Socket{}, Say("six"))
	r := start(t, setup{backends: -1, dead: []netip.AddrPort{backend.Addr()}, front: FreeAddr6(t)})
	if got := r.ask(t); got != "six" {
		t.Errorf("%q answered", got)
	}
}

// TestWildcardListeners: 0.0.0.0 and :: of one port are two listeners, and the
// second does not take the first one's clients.
func TestWildcardListeners(t *testing.T) {
	port := FreePort(t)
	four := netip.AddrPortFrom(netip.IPv4Unspecified(), port)
	six := netip.AddrPortFrom(netip.IPv6Unspecified(), port)
	r := start(t, setup{backends: 2, serve: names, front: six, listener: func(ln *route.Listener) { ln.Backends = ln.Backends[:1] }})
	local4 := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
	local6 := netip.AddrPortFrom(netip.IPv6Loopback(), port)
	if got, err := Ask(local6); got != "A" {
		t.Errorf("IPv6: %q, %v", got, err)
	}
	if got, err := Ask(local4); err == nil {
		t.Errorf("the IPv6 listener answers %q over IPv4", got)
	}
	r.publish(t, r.listener(), serving(four, r.backends[1].Addr()))
	for addr, want := range map[netip.AddrPort]string{local4: "B", local6: "A"} {
		if got, err := Ask(addr); got != want {
			t.Errorf("%v: %q, %v; want %q", addr, got, err, want)
		}
	}
}

// TestForeignPort: an address that another process uses is not shared with it,
// is shown with a hint, hinders no other listener, and opens when it is free.
func TestForeignPort(t *testing.T) {
	tests := []struct {
		name string
		says string // of who has the port
		take func(*testing.T, netip.AddrPort) (release func())
	}{
		{"listener", "which listens at", func(t *testing.T, addr netip.AddrPort) func() {
			return listenWith(t, addr, 0)
		}},
		{"listener with SO_REUSEPORT", "which listens at", func(t *testing.T, addr netip.AddrPort) func() {
			const soReusePort = 15
			return listenWith(t, addr, soReusePort)
		}},
		{"source port of a connection", "by the connection", func(t *testing.T, addr netip.AddrPort) func() {
			p, err := Connect(Serve(t, Hold).Addr(), Socket{Local: addr})
			if err != nil {
				t.Fatal(err)
			}
			return func() { _ = p.Reset() }
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := start(t, setup{serve: names})
			addr := FreeAddr(t)
			release := test.take(t, addr)
			foreign := serving(addr, r.backends[0].Addr())
			other := serving(FreeAddr(t), r.backends[0].Addr())
			r.swap(r.listener(), foreign, other)
			Within(t, 2*time.Second, "the others open, the taken one says why not", func() bool {
				l := r.engine.Listening()
				err, known := l[other.Addr]
				return known && err == nil && l[addr] != nil
			})
			err := r.engine.Listening()[addr]
			for _, want := range []string{test.says + " " + addr.String(), "ip_local_reserved_ports"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the reason %q does not say %q", err, want)
				}
			}
			if is := errors.Is(err, route.ErrInUse); is != strings.Contains(test.says, "listens") || !errors.Is(err, syscall.EADDRINUSE) {
				t.Errorf("%#v is a listener's: %v", err, is)
			}
			if got, err := Ask(other.Addr); got != "A" {
				t.Errorf("the other listener answers %q, %v", got, err)
			}
			Steady(t, 100*time.Millisecond, "it stays closed", func() bool { return r.engine.Listening()[addr] != nil })
			release()
			Within(t, time.Second, "it opens once the port is free", func() bool {
				err, known := r.engine.Listening()[addr]
				return known && err == nil
			})
			if got, err := Ask(addr); got != "A" {
				t.Errorf("the listener answers %q, %v", got, err)
			}
			// A port that was given back is not retried any more.
			r.publish(t, r.listener())
			Eventually(t, "it closes", func() bool { return !Listening(t, addr) })
		})
	}
}

// TestRemedyIsLoggedOnce: what to do about taken ports is in the log once, and not
// with each of them.
func TestRemedyIsLoggedOnce(t *testing.T) {
	r := start(t, setup{})
	routes := []*route.Listener{r.listener()}
	for range 3 {
		taken := FreeAddr(t)
		t.Cleanup(listenWith(t, taken, 0))
		routes = append(routes, serving(taken, r.backends[0].Addr()))
	}
	r.swap(routes...)
	Eventually(t, "all three are told", func() bool {
		return strings.Count(r.log.String(), "port cannot be opened") == 3
	})
	if n := strings.Count(r.log.String(), "remedy="); n != 1 {
		t.Errorf("the remedy is told %d times", n)
	}
}

// TestPortInTimeWait: what is left of a connection keeps the port it came from;
// the reason says so, and for how long.
func TestPortInTimeWait(t *testing.T) {
	backend := Listen(t)
	addr := FreeAddr(t)
	p, err := Connect(backend.Addr(), Socket{Local: addr})
	if err != nil {
		t.Fatal(err)
	}
	server := backend.Accept(t)
	p.Must(t, HalfClose())
	server.Must(t, ReadToEOF(0), Close())
	p.Must(t, ReadToEOF(0), Close())
	r := start(t, setup{})
	r.swap(r.listener(), serving(addr, r.backends[0].Addr()))
	Eventually(t, "the port cannot be opened", func() bool {
		err := r.engine.Listening()[addr]
		return err != nil && strings.Contains(err.Error(), "in use")
	})
	want := fmt.Sprintf("by what is left of the connection %v to %v (TIME-WAIT, free within ", addr, backend.Addr())
	if err := r.engine.Listening()[addr]; !strings.Contains(err.Error(), want) || errors.Is(err, route.ErrInUse) {
		t.Errorf("the reason %#v does not say %q", err, want)
	}
}

// listenWith listens at addr with one more socket option set (0 = none).
func listenWith(t *testing.T, addr netip.AddrPort, option int) (release func()) {
	t.Helper()
	cfg := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) {
			if option != 0 {
				failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, option, 1)
			}
		})
		if failed != nil {
			return failed
		}
		return err
	}}
	ln, err := cfg.Listen(context.Background(), "tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return func() { ln.Close() }
}

// TestListenerReopensOverOldSessions: a listener that closes while its old
// sessions still drain can open again at once: they do not count as foreign.
func TestListenerReopensOverOldSessions(t *testing.T) {
	r := start(t, setup{})
	client, server := r.open(t)
	r.publish(t)
	Eventually(t, "the listener is closed", func() bool { return !Listening(t, r.front) })
	begun := time.Now()
	r.publish(t, r.listener())
	took(t, "reopening", time.Since(begun), 0, 2*time.Second)
	r.play(t, []Op{Write(10), ReadToEOF(10), Close()}, []Op{Read(10), Write(10), Close()})
	Play(t,
		Role{Name: "old client", Peer: client, Ops: []Op{Write(10), ReadToEOF(10), Close()}},
		Role{Name: "old server", Peer: server, Ops: []Op{Read(10), Write(10), Close()}})
}

// TestQueueOfClosingListenerIsAccepted: a client whose connection the kernel
// has completed is served although its listener was removed before dill could
// accept it.
func TestQueueOfClosingListenerIsAccepted(t *testing.T) {
	const clients = 40
	r := start(t, setup{cfg: dataplane.Config{Loops: 1}, backends: 2, serve: echoes})
	if err := roundTrip(Dial(t, r.front), make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	held := r.engine.Hold() // the clients that come now stay queued
	accepted := since("accepted")
	var peers []*Peer
	for range clients {
		p := Dial(t, r.front)
		p.Must(t, Write(1))
		peers = append(peers, p)
	}
	r.swap()
	if n := accepted(); n != 0 {
		t.Fatalf("a loop that stands still has accepted %d clients", n)
	}
	held.Go()
	for i, p := range peers {
		if n, err := p.Conn().Read(make([]byte, 1)); n != 1 {
			t.Fatalf("client %d of %d was not served: %v", i, clients, err)
		}
		_ = p.Close()
	}
	Eventually(t, "the listener is closed", func() bool { return !Listening(t, r.front) })
}

// TestUnrelatedChangeTouchesNobody: sessions run on while other listeners come
// and go and their own is published anew.
func TestUnrelatedChangeTouchesNobody(t *testing.T) {
	r := start(t, setup{backends: 2, serve: echoes})
	var busy []*Peer
	for range 8 {
		busy = append(busy, Dial(t, r.front))
	}
	done := NewEvent()
	failed := make(chan error, len(busy))
	for _, p := range busy {
		go func() {
			buf := make([]byte, 10_000)
			for {
				select {
				case <-done.Done():
					failed <- nil
					return
				default:
				}
				if err := roundTrip(p, buf); err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	other := FreeAddr(t)
	for range 30 {
		r.publish(t, r.listener(), serving(other, r.backends[0].Addr()))
		r.publish(t, r.listener())
	}
	done.Fire()
	for range busy {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
	Eventually(t, "all have reached a backend", func() bool {
		return r.backends[0].Accepted()+r.backends[1].Accepted() >= int64(len(busy))
	})
	for i, b := range r.backends {
		if b.Accepted() != 4 {
			t.Errorf("backend %d has accepted %d connections, want 4", i, b.Accepted())
		}
	}
}

// TestShutdown: nothing new is accepted, what runs may finish, and what is left
// when the time is out is reset.
func TestShutdown(t *testing.T) {
	t.Run("sessions finish", func(t *testing.T) {
		r := start(t, setup{})
		client, server := r.open(t)
		client.Must(t, Write(10))
		server.Must(t, Read(10))
		ended := shutdown(r, Patience)
		Eventually(t, "the listener is closed", func() bool { return !Listening(t, r.front) })
		Steady(t, 100*time.Millisecond, "shutdown waits", func() bool { return len(ended) == 0 })
		Play(t,
			Role{Name: "client", Peer: client, Ops: []Op{Write(1 << 20), HalfClose(), ReadToEOF(1 << 20), Close()}},
			Role{Name: "server", Peer: server, Ops: []Op{ReadToEOF(10 + 1<<20), Write(1 << 20), Close()}})
		if err := <-ended; err != nil {
			t.Errorf("shutdown: %v", err)
		}
	})
	t.Run("the rest is reset", func(t *testing.T) {
		r := start(t, setup{})
		counted := since("shutdown_reset")
		var peers []*Peer
		for range 5 {
			client, server := r.open(t)
			peers = append(peers, client, server)
		}
		begun := time.Now()
		<-shutdown(r, 200*time.Millisecond)
		took(t, "shutdown", time.Since(begun), 200*time.Millisecond, 2*time.Second)
		for _, p := range peers {
			p.Must(t, ReadToReset(0))
		}
		counts(t, "shutdown_reset", counted, 5)
	})
	t.Run("without sessions", func(t *testing.T) {
		r := start(t, setup{})
		begun := time.Now()
		if err := <-shutdown(r, Patience); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		took(t, "shutdown", time.Since(begun), 0, time.Second)
	})
}

// shutdown starts to shut the engine down and returns where its result comes.
func shutdown(r *rig, limit time.Duration) <-chan error {
	ended := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		ended <- r.engine.Shutdown(ctx)
	}()
	return ended
}

// TestPublishAfterShutdown: it is harmless, as is a second shutdown.
func TestPublishAfterShutdown(t *testing.T) {
	r := start(t, setup{})
	<-shutdown(r, Patience)
	r.swap(r.listener())
	Steady(t, 100*time.Millisecond, "nothing opens", func() bool { return !Listening(t, r.front) })
}

// TestManyEngines: engines do not share state; one in a process ends without
// the others noticing.
func TestManyEngines(t *testing.T) {
	stays := start(t, setup{serve: names})
	for i := range 3 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			r := start(t, setup{backends: 2, serve: names})
			if a, b := r.ask(t), r.ask(t); a == b {
				t.Errorf("%q answered twice", a)
			}
		})
	}
	if got := stays.ask(t); got != "A" {
		t.Errorf("%q answered", got)
	}
}

// TestOpenIsWhatEveryLoopServes: a listener is not called open while a loop does
// not know it yet.
func TestOpenIsWhatEveryLoopServes(t *testing.T) {
	r := start(t, setup{cfg: dataplane.Config{Loops: 2}})
	addr := FreeAddr(t)
	release := r.engine.HoldLoop(1)
	r.swap(r.listener(), serving(addr, r.backends[0].Addr()))
	open := func() bool { err, known := r.engine.Listening()[addr]; return known && err == nil }
	Steady(t, 200*time.Millisecond, "the listener is not open", func() bool { return !open() })
	release()
	Eventually(t, "the listener is open", open)
}
