package dataplane_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"dill/dataplane"
	. "dill/dataplane/dptest"
	"dill/dataplane/route"
)

const drainTime = 400 * time.Millisecond

// pingPong moves bytes both ways through a session that is supposed to live.
func pingPong(t *testing.T, client, server *Peer) {
	t.Helper()
	for range 3 {
		client.Must(t, Write(100))
		server.Must(t, Read(100), Write(100))
		client.Must(t, Read(100))
	}
}

// TestRemovedListenerDrains: its sessions go on for drain_timeout and are then
// reset, on both sides.
func TestRemovedListenerDrains(t *testing.T) {
	r := start(t, setup{cfg: dataplane.Config{DrainTimeout: drainTime}})
	client, server := r.open(t)
	drained := since("drain_reset")
	begun := time.Now()
	r.publish(t)
	Eventually(t, "the listener is closed", func() bool { return !Listening(t, r.front) })
	for time.Since(begun) < drainTime/2 {
		pingPong(t, client, server)
	}
	client.Must(t, ReadToReset(client.Got()))
	took(t, "the reset", time.Since(begun), drainTime, 2*time.Second)
	server.Must(t, ReadToReset(server.Got()))
	counts(t, "drain_reset", drained, 1)
}

// TestDrainIsJittered: at the end of a drain the sessions are not all reset at
// once, or all their clients would come back at once.
func TestDrainIsJittered(t *testing.T) {
	const sessions, drain = 30, time.Second
	r := start(t, setup{cfg: dataplane.Config{DrainTimeout: drain}})
	var clients []*Peer
	for range sessions {
		client, _ := r.open(t)
		clients = append(clients, client)
	}
	begun := time.Now()
	r.publish(t)
	ends := make([]time.Duration, sessions)
	var wg sync.WaitGroup
	for i, client := range clients {
		wg.Go(func() {
			if err := client.Run(ReadToReset(0)); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
			ends[i] = time.Since(begun)
		})
	}
	wg.Wait()
	slices.Sort(ends)
	took(t, "the first reset", ends[0], drain, drain+2*time.Second)
	if spread := ends[sessions-1] - ends[0]; spread < drain/20 {
		t.Errorf("%d resets came within %v of each other", sessions, spread)
	}
}

// TestReturningListenerCancelsDrain: one that is back before the time is out
// keeps its sessions.
func TestReturningListenerCancelsDrain(t *testing.T) {
	r := start(t, setup{cfg: dataplane.Config{DrainTimeout: drainTime}})
	client, server := r.open(t)
	r.publish(t)
	Eventually(t, "the listener is closed", func() bool { return !Listening(t, r.front) })
	r.publish(t, r.listener())
	drained := since("drain_reset")
	Steady(t, 2*drainTime, "the session lives", func() bool { return drained() == 0 })
	pingPong(t, client, server)
	r.play(t, []Op{Write(10), ReadToEOF(0), Close()}, []Op{Read(10), Close()})
}

// TestRemovedTwiceDrainsFromTheLastTime: a listener that returned and left
// again has its whole drain time anew.
func TestRemovedTwiceDrainsFromTheLastTime(t *testing.T) {
	r := start(t, setup{cfg: dataplane.Config{DrainTimeout: drainTime}})
	client, server := r.open(t)
	r.publish(t)
	Eventually(t, "the listener is closed", func() bool { return !Listening(t, r.front) })
	r.publish(t, r.listener())
	drained := since("drain_reset")
	Steady(t, drainTime/2, "the session lives", func() bool { return drained() == 0 })
	begun := time.Now()
	r.publish(t)
	client.Must(t, ReadToReset(0))
	took(t, "the reset", time.Since(begun), drainTime, 2*time.Second)
	server.Must(t, ReadToReset(0))
}

// TestDrainedSessionMayFinish: one that ends by itself during the drain ends
// cleanly.
func TestDrainedSessionMayFinish(t *testing.T) {
	r := start(t, setup{cfg: dataplane.Config{DrainTimeout: 10 * time.Second}})
	client, server := r.open(t)
	r.publish(t)
	Eventually(t, "the listener is closed", func() bool { return !Listening(t, r.front) })
	const n = 3 << 20
	Play(t,
		Role{Name: "client", Peer: client, Ops: []Op{Write(n), HalfClose(), ReadToEOF(n), Close()}},
		Role{Name: "server", Peer: server, Ops: []Op{ReadToEOF(n), Write(n), Close()}})
}

// TestRemovedBackend: a backend that leaves while its listener stays gets no
// new connections; its sessions go on, unless the listener has a limit.
func TestRemovedBackend(t *testing.T) {
	// gone is the rig's listener without the backend that has the session.
	gone := func(r *rig) *route.Listener {
		ln := r.listener()
		ln.Backends = ln.Backends[:0]
		return ln
	}
	withLimit := func(ln *route.Listener) { ln.DrainTimeout = drainTime }

	t.Run("without limit", func(t *testing.T) {
		r := start(t, setup{cfg: dataplane.Config{DrainTimeout: 50 * time.Millisecond}})
		client, server := r.open(t)
		r.publish(t, gone(r))
		drained := since("drain_reset")
		r.rejected(t)
		Steady(t, 300*time.Millisecond, "the session lives", func() bool { return drained() == 0 })
		pingPong(t, client, server)
	})
	t.Run("with limit", func(t *testing.T) {
		r := start(t, setup{listener: withLimit})
		client, server := r.open(t)
		begun := time.Now()
		r.publish(t, gone(r))
		pingPong(t, client, server)
		client.Must(t, ReadToReset(client.Got()))
		took(t, "the reset", time.Since(begun), drainTime, 2*time.Second)
		server.Must(t, ReadToReset(server.Got()))
	})
	t.Run("returns in time", func(t *testing.T) {
		r := start(t, setup{cfg: dataplane.Config{Loops: 1}, listener: withLimit})
		client, server := r.open(t)
		r.inject(t, func() { r.publish(t, gone(r)) }) // once the loop has started the drain
		r.publish(t, r.listener())
		drained := since("drain_reset")
		Steady(t, 2*drainTime, "the session lives", func() bool { return drained() == 0 })
		pingPong(t, client, server)
	})
	waiting := func(r *rig) *route.Listener {
		ln := gone(r)
		ln.Waiting = true
		return ln
	}
	t.Run("is waited for and returns", func(t *testing.T) {
		r := start(t, setup{listener: withLimit})
		client, server := r.open(t)
		r.publish(t, waiting(r))
		r.rejected(t)
		drained := since("drain_reset")
		Steady(t, 2*drainTime, "the session lives", func() bool { return drained() == 0 })
		r.publish(t, r.listener())
		Steady(t, 2*drainTime, "the session lives", func() bool { return drained() == 0 })
		pingPong(t, client, server)
	})
	t.Run("is waited for in vain", func(t *testing.T) {
		r := start(t, setup{cfg: dataplane.Config{Loops: 1}, listener: withLimit})
		client, server := r.open(t)
		r.publish(t, waiting(r))
		r.rejected(t)
		begun := time.Now()
		r.publish(t, gone(r))
		client.Must(t, ReadToReset(0))
		took(t, "the reset", time.Since(begun), drainTime, 2*time.Second)
		server.Must(t, ReadToReset(0))
	})
	t.Run("is waited for while it drains", func(t *testing.T) {
		r := start(t, setup{cfg: dataplane.Config{Loops: 1}, listener: withLimit})
		client, server := r.open(t)
		r.inject(t, func() { r.publish(t, gone(r)) }) // once the loop has started the drain
		r.publish(t, waiting(r))
		drained := since("drain_reset")
		Steady(t, 2*drainTime, "the session lives", func() bool { return drained() == 0 })
		begun := time.Now()
		r.publish(t, gone(r))
		client.Must(t, ReadToReset(0))
		took(t, "the reset", time.Since(begun), drainTime, 2*time.Second)
		server.Must(t, ReadToReset(0))
	})
	t.Run("returns and leaves again", func(t *testing.T) {
		r := start(t, setup{cfg: dataplane.Config{Loops: 1}, listener: withLimit})
		client, server := r.open(t)
		r.inject(t, func() { r.publish(t, gone(r)) }) // once the loop has started the drain
		r.publish(t, r.listener())
		drained := since("drain_reset")
		Steady(t, drainTime/2, "the session lives", func() bool { return drained() == 0 })
		begun := time.Now()
		r.publish(t, gone(r))
		client.Must(t, ReadToReset(0))
		took(t, "the reset", time.Since(begun), drainTime, 2*time.Second)
		server.Must(t, ReadToReset(0))
	})
	t.Run("another one leaves", func(t *testing.T) {
		other := FreeAddr(t)
		ListenOn(t, other, Socket{}, Hold)
		withOther := func(ln *route.Listener) {
			withLimit(ln)
			ln.Backends = append(ln.Backends, &route.Backend{Addr: other, Weight: 1})
		}
		r := start(t, setup{listener: withLimit})
		client, server := r.open(t)
		r.setup.listener = withOther
		r.publish(t, r.listener())
		r.setup.listener = withLimit
		r.publish(t, r.listener())
		drained := since("drain_reset")
		Steady(t, 2*drainTime, "the session lives", func() bool { return drained() == 0 })
		pingPong(t, client, server)
	})
}

// TestDrainWithoutAGeneralLimit: where sessions of a closed listener may go on
// for ever, a limit of the listener's own holds nevertheless.
func TestDrainWithoutAGeneralLimit(t *testing.T) {
	forEver := dataplane.Config{DrainTimeout: -1}
	t.Run("limit of the listener", func(t *testing.T) {
		r := start(t, setup{cfg: forEver, listener: func(ln *route.Listener) { ln.DrainTimeout = drainTime }})
		client, server := r.open(t)
		begun := time.Now()
		r.publish(t)
		client.Must(t, ReadToReset(0))
		took(t, "the reset", time.Since(begun), drainTime, drainTime+2*time.Second)
		server.Must(t, ReadToReset(0))
	})
	t.Run("none", func(t *testing.T) {
		r := start(t, setup{cfg: forEver})
		client, server := r.open(t)
		drained := since("drain_reset")
		r.publish(t)
		Eventually(t, "the listener is closed", func() bool { return !Listening(t, r.front) })
		Steady(t, drainTime, "the session lives", func() bool { return drained() == 0 })
		pingPong(t, client, server)
	})
}
