package dataplane_test

import (
	"io"
	"net/netip"
	"testing"
	"time"

	"dill/dataplane"
	. "dill/dataplane/dptest"
	"dill/dataplane/route"
)

// The table changes while a client is being connected: each attempt is made by
// the newest one.

// attemptTime is how long an attempt at a silent backend lasts: the next table is
// published within it, on a busy machine too.
const attemptTime = 2 * time.Second

// underWay starts a client of r and waits until it is being connected to a
// backend that does not answer.
func underWay(t *testing.T, r *rig) *Peer {
	t.Helper()
	for range 2 { // round robin: one of two meets the silent backend
		sessions, connected := dataplane.Stats().Sessions, since("connected")
		client := Dial(t, r.front)
		Eventually(t, "the client is accepted", func() bool {
			return dataplane.Stats().Sessions > sessions || connected() > 0
		})
		if !Poll(50*time.Millisecond, func() bool { return connected() > 0 }) {
			return client
		}
	}
	t.Fatal("no client met the silent backend")
	return nil
}

// answers checks who serves a client.
func answers(t *testing.T, client *Peer, want string) {
	t.Helper()
	client.Extend(Patience)
	got, err := io.ReadAll(client.Conn())
	if err != nil || string(got) != want {
		t.Errorf("%q answered, %v, want %q", got, err, want)
	}
}

// TestEachAttemptUsesTheNewestTable: a client that is still being connected
// gets the backends that are there now, not those of its accept.
func TestEachAttemptUsesTheNewestTable(t *testing.T) {
	cfg := dataplane.Config{EjectAfter: -1, ConnectTimeout: attemptTime}
	t.Run("an instance that left is not tried", func(t *testing.T) {
		r := start(t, setup{cfg: cfg, serve: names, dead: several(t, 1, SilentAddr)})
		other := ListenOn(t, netip.AddrPort{}, Socket{}, Say("new"))
		client := underWay(t, r)
		before := r.backends[0].Accepted()
		r.publish(t, serving(r.front, other.Addr()))
		answers(t, client, "new")
		if n := r.backends[0].Accepted() - before; n > 0 {
			t.Errorf("%d connections went to the instance that left", n)
		}
	})
	t.Run("an instance that failed is not tried again", func(t *testing.T) {
		r := start(t, setup{cfg: cfg, backends: -1, dead: several(t, 1, SilentAddr)})
		other := ListenOn(t, netip.AddrPort{}, Socket{}, Say("new"))
		failed := since("connect_failed")
		client := underWay(t, r)
		r.publish(t, serving(r.front, r.setup.dead[0], other.Addr()))
		answers(t, client, "new")
		counts(t, "connect_failed", failed, 1)
	})
	t.Run("a client that is no longer allowed", func(t *testing.T) {
		r := start(t, setup{cfg: cfg, backends: -1, dead: several(t, 1, SilentAddr)})
		other := ListenOn(t, netip.AddrPort{}, Socket{}, Say("new"))
		denied := since("refused_allow")
		client := underWay(t, r)
		ln := serving(r.front, other.Addr())
		ln.Allow = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
		r.publish(t, ln)
		client.Must(t, ReadToReset(0))
		counts(t, "refused_allow", denied, 1)
		if n := other.Accepted(); n != 0 {
			t.Errorf("%d reached the backend", n)
		}
	})
}

// TestBackendThatLeavesDuringTheAttempt: a connect that succeeds after its
// instance left the table is not used; the client gets one that is there.
func TestBackendThatLeavesDuringTheAttempt(t *testing.T) {
	proxy := Listen(t)
	left := FreeAddr(t)
	r := start(t, setup{backends: -1, dead: []netip.AddrPort{left}, backend: func(b *route.Backend) {
		b.Socks = &route.Socks{Addr: proxy.Addr()}
	}})
	other := ListenOn(t, netip.AddrPort{}, Socket{}, Say("new"))
	client := Dial(t, r.front)
	server := proxy.Accept(t).Conn()
	exchange := func(reads int, reply []byte) {
		t.Helper()
		if _, err := io.ReadFull(server, make([]byte, reads)); err != nil {
			t.Fatal(err)
		}
		if _, err := server.Write(reply); err != nil {
			t.Fatal(err)
		}
	}
	exchange(3, []byte{5, 0})
	r.publish(t, serving(r.front, other.Addr()))
	exchange(10, []byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	answers(t, client, "new")
}

// TestDrainSeesLateSessions: a session that was still connecting when its
// listener or its instance left is drained like the others, and not later.
func TestDrainSeesLateSessions(t *testing.T) {
	t.Run("connected after its listener left", func(t *testing.T) {
		cfg := dataplane.Config{EjectAfter: -1, ConnectTimeout: drainTime / 2, DrainTimeout: drainTime}
		r := start(t, setup{cfg: cfg, dead: several(t, 1, SilentAddr)})
		client := underWay(t, r)
		drained, begun := since("drain_reset"), time.Now()
		r.publish(t)
		client.Must(t, ReadToReset(0))
		took(t, "the reset", time.Since(begun), drainTime, drainTime+2*time.Second)
		Eventually(t, "the drain has reset it", func() bool { return drained() > 0 })
	})
	t.Run("still connecting at the end", func(t *testing.T) {
		cfg := dataplane.Config{ConnectTimeout: time.Minute, DrainTimeout: drainTime, ConnectTotalTimeout: time.Minute}
		dead := several(t, 2, SilentAddr)
		r := start(t, setup{cfg: cfg, backends: -1, dead: dead, backend: func(b *route.Backend) {
			if b.Addr == dead[0] {
				b.ConnectTimeout = drainTime / 2 // the second attempt begins during the drain
			}
		}})
		client := underWay(t, r)
		drained, begun := since("drain_reset"), time.Now()
		r.publish(t)
		client.Must(t, ReadToReset(0))
		took(t, "the reset", time.Since(begun), drainTime, drainTime+2*time.Second)
		counts(t, "drain_reset", drained, 1)
	})
	t.Run("its instance left before the attempt", func(t *testing.T) {
		cfg := dataplane.Config{EjectAfter: -1, ConnectTimeout: attemptTime}
		limit := func(ln *route.Listener) { ln.DrainTimeout = drainTime }
		r := start(t, setup{cfg: cfg, listener: limit, dead: several(t, 1, SilentAddr)})
		client := underWay(t, r)
		before := r.backends[0].Accepted()
		gone := r.listener()
		gone.Backends = gone.Backends[:0]
		r.publish(t, gone)
		client.Must(t, ReadToReset(0)) // as every client from now on
		if n := r.backends[0].Accepted() - before; n > 0 {
			t.Errorf("%d connections went to the instance that left", n)
		}
	})
}
