package dataplane_test

import (
	"net/netip"
	"testing"
	"time"

	"dill/dataplane"
	. "dill/dataplane/dptest"
)

// crowd is clients of an engine in a process of its own, whose backends echo.
type crowd struct {
	peers          []*Peer
	served, turned int // got their echo; were reset
}

// enter lets n clients in and waits until each was served or reset. One that
// is left waiting fails the test.
func (c *crowd) enter(t *testing.T, front netip.AddrPort, n int) {
	t.Helper()
	results := make(chan error, n)
	for range n {
		p, err := Connect(front, Socket{})
		if err != nil {
			results <- err // reset before the connect returned
			continue
		}
		p.Extend(Patience)
		t.Cleanup(func() { _ = p.Close() })
		c.peers = append(c.peers, p)
		go func() { results <- roundTrip(p, make([]byte, 10)) }()
	}
	for range n {
		switch err := <-results; {
		case err == nil:
			c.served++
		case IsReset(err):
			c.turned++
		default:
			t.Fatalf("after %d clients served and %d reset: %v", c.served, c.turned, err)
		}
	}
}

func freeAddrs(t *testing.T, n int) (all []netip.AddrPort) {
	t.Helper()
	for range n {
		all = append(all, FreeAddr(t))
	}
	return all
}

// TestBudgetCountsListeners: with 1024 files and 300 listeners on 2 loops, as
// many clients are served as the limit says, the others are reset, nobody waits
// in silence, and the reserve is there for the control plane.
func TestBudgetCountsListeners(t *testing.T) {
	const files, listeners = 1024, 300
	backend := Serve(t, Echo)
	fronts := freeAddrs(t, listeners)
	engine := startEngine(t, engineTask{Fronts: fronts, Backends: []netip.AddrPort{backend.Addr()}, Files: files, Budget: true})
	var c crowd
	c.enter(t, fronts[0], 250)
	s := statsOf(t, engine)
	want, _ := dataplane.Budget(files, 2, listeners)
	if int64(c.served) != s.Limit || c.served != want || c.turned == 0 {
		t.Errorf("%d clients were served and %d reset; the limit is shown as %d, want %d", c.served, c.turned, s.Limit, want)
	}
	// What the process needs for itself is a part of the reserve.
	const own, reserve = 20, 256
	engine.Tell(t, engineTask{Do: "open", Open: reserve - own})
	var opened int
	if engine.Hear(t, &opened); opened < reserve-own {
		t.Errorf("%d files are left for the control plane, want %d", opened, reserve-own)
	}
	// The limit follows the table.
	tellEngine(t, engine, engineTask{Do: "publish", Fronts: fronts[:10], Backends: []netip.AddrPort{backend.Addr()}})
	want, _ = dataplane.Budget(files, 2, 10)
	Eventually(t, "the limit follows the table", func() bool { return statsOf(t, engine).Limit == int64(want) })
}

// TestBudgetWithoutLimit: with the limit on clients switched off, those that the
// budget does not allow wait, and are served when others leave.
func TestBudgetWithoutLimit(t *testing.T) {
	backend := Serve(t, Echo)
	front := FreeAddr(t)
	engine := startEngine(t, engineTask{Fronts: []netip.AddrPort{front}, Backends: []netip.AddrPort{backend.Addr()}, Files: 64, Budget: true, Limit: -1})
	const clients = 30
	served := make(chan *Peer, clients)
	for range clients {
		p := Dial(t, front)
		p.Extend(2 * Patience)
		go func() {
			if roundTrip(p, make([]byte, 10)) == nil {
				served <- p
			}
		}()
	}
	Eventually(t, "clients wait", func() bool { return statsOf(t, engine).Get("accept_paused") > 0 })
	for i := range clients {
		select {
		case p := <-served:
			_ = p.Close()
		case <-time.After(Patience):
			t.Fatalf("%d of %d clients were served", i, clients)
		}
	}
}

// TestFullProcessResetsClients: when the rest of the process has taken the data
// plane's descriptors, too, clients are reset and not left waiting.
func TestFullProcessResetsClients(t *testing.T) {
	backend := Serve(t, Echo)
	front := FreeAddr(t)
	engine := startEngine(t, engineTask{Fronts: []netip.AddrPort{front}, Backends: []netip.AddrPort{backend.Addr()}, Files: 128, Budget: true})
	var c crowd
	c.enter(t, front, 10)
	if c.turned > 0 {
		t.Fatalf("%d of 10 clients were reset with 128 files", c.turned)
	}
	engine.Tell(t, engineTask{Do: "open", Open: 128})
	var opened int
	engine.Hear(t, &opened)
	c.enter(t, front, 20)
	if c.turned == 0 {
		t.Errorf("all clients were served although no file was left (%d taken)", opened)
	}
}

// TestClosingQueueWaitsForDescriptors: the clients in the queue of a port that
// closes while descriptors are out are served when some come free.
func TestClosingQueueWaitsForDescriptors(t *testing.T) {
	backend := Serve(t, Echo)
	fronts := freeAddrs(t, 2)
	to := []netip.AddrPort{backend.Addr()}
	engine := startEngine(t, engineTask{Fronts: fronts, Backends: to, Files: 64})
	var first crowd
	first.enter(t, fronts[0], 5)
	engine.Tell(t, engineTask{Do: "open", Open: 64})
	var opened int
	engine.Hear(t, &opened)
	// Each loop still has its reserve, which makes half a session.
	const clients = 4
	queued := make(chan error, clients)
	for range clients {
		p := Dial(t, fronts[1])
		p.Extend(Patience)
		t.Cleanup(func() { _ = p.Close() })
		go func() { queued <- roundTrip(p, make([]byte, 10)) }()
	}
	Eventually(t, "clients wait", func() bool { return statsOf(t, engine).Get("accept_paused") > 0 })
	tasks := statsOf(t, engine).Get("tasks")
	tellEngine(t, engine, engineTask{Do: "publish", Fronts: fronts[:1], Backends: to})
	Eventually(t, "both loops close the port", func() bool { return statsOf(t, engine).Get("tasks") >= tasks+2 })
	for _, p := range first.peers {
		_ = p.Close()
	}
	for range clients {
		if err := <-queued; err != nil {
			t.Error("a client that was queued: ", err)
		}
	}
	Eventually(t, "the port is closed", func() bool { return !Listening(t, fronts[1]) })
}
