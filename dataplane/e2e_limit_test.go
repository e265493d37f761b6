package dataplane_test

import (
	"net/netip"
	"testing"
	"time"

	"dill/dataplane"
	. "dill/dataplane/dptest"
	"dill/dataplane/route"
)

// TestIdleTimeout: a session on which no byte moves is reset on both sides; the
// listener's own timeout goes before the config's.
func TestIdleTimeout(t *testing.T) {
	const limit = 250 * time.Millisecond
	tests := []struct {
		name     string
		config   time.Duration
		listener time.Duration
		cut      bool
	}{
		{"of the config", limit, 0, true},
		{"of the listener", 0, limit, true},
		{"of the listener, shorter", time.Minute, limit, true},
		{"switched off by the listener", limit, -1, false},
		{"off", 0, 0, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := start(t, setup{
				cfg:      dataplane.Config{IdleTimeout: test.config},
				listener: func(ln *route.Listener) { ln.IdleTimeout = test.listener },
			})
			client, server := r.open(t)
			client.Must(t, Write(10))
			server.Must(t, Read(10))
			counted := since("idle_timeout")
			begun := time.Now()
			if !test.cut {
				Steady(t, 2*limit, "the session lives", func() bool { return counted() == 0 })
				pingPong(t, client, server)
				return
			}
			client.Must(t, ReadToReset(0))
			took(t, "the reset", time.Since(begun), limit-20*time.Millisecond, limit+2*time.Second)
			server.Must(t, ReadToReset(10))
			counts(t, "idle_timeout", counted, 1)
		})
	}
}

// TestIdleTimeoutCountsFromLastByte: bytes in either direction keep a session
// alive.
func TestIdleTimeoutCountsFromLastByte(t *testing.T) {
	eachMode(t, setup{cfg: dataplane.Config{IdleTimeout: time.Second}}, func(t *testing.T, r *rig) {
		const n = 8
		eachSide(t, r, func(t *testing.T, sender, reader *Peer) {
			Play(t,
				Role{Name: "sender", Peer: sender, Ops: []Op{WritePaced(n, 1, 150*time.Millisecond), HalfClose(), ReadToEOF(0)}},
				Role{Name: "reader", Peer: reader, Ops: []Op{ReadToEOF(n), Close()}})
		})
	})
}

// TestMaxConnections: beyond the limit a client is reset and counted, and one
// that leaves makes room.
func TestMaxConnections(t *testing.T) {
	const limit = 3
	tests := []struct {
		name  string
		setup setup
	}{
		{"of the process", setup{cfg: dataplane.Config{MaxConnections: limit}}},
		{"of the listener", setup{listener: func(ln *route.Listener) { ln.MaxConnections = limit }}},
		{"of the listener, on one loop", setup{cfg: dataplane.Config{Loops: 1}, listener: func(ln *route.Listener) { ln.MaxConnections = limit }}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := start(t, test.setup)
			refused := since("refused_limit")
			var last *Peer
			for range limit {
				last, _ = r.open(t)
			}
			for range 5 {
				r.rejected(t)
			}
			counts(t, "refused_limit", refused, 5)
			last.Must(t, Reset())
			Eventually(t, "there is room", func() bool { return dataplane.Stats().Sessions == limit-1 })
			client, server := r.open(t)
			pingPong(t, client, server)
			r.rejected(t)
		})
	}
}

// TestMaxConnectionsSurvivesSwap: the count of a listener is not forgotten when
// a new table comes.
func TestMaxConnectionsSurvivesSwap(t *testing.T) {
	r := start(t, setup{listener: func(ln *route.Listener) { ln.MaxConnections = 1 }})
	client, server := r.open(t)
	for range 3 {
		r.publish(t, r.listener())
		r.rejected(t)
	}
	pingPong(t, client, server)
}

// TestAllow: a client from elsewhere is reset at accept, counted, and never
// seen by a backend.
func TestAllow(t *testing.T) {
	inside := netip.MustParseAddrPort("127.9.8.7:0")
	outside := netip.MustParseAddrPort("127.9.9.7:0")
	tests := []struct {
		name  string
		allow []string
		in    bool // is the client from inside served
		out   bool
	}{
		{"everybody", nil, true, true},
		{"one network", []string{"127.9.8.0/24"}, true, false},
		{"one of several", []string{"10.0.0.0/8", "127.9.8.7/32", "::/0"}, true, false},
		{"nobody", []string{"::/0"}, false, false},
		{"an empty list", []string{}, false, false},
		{"all of IPv4", []string{"0.0.0.0/0"}, true, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := start(t, setup{serve: names, listener: func(ln *route.Listener) {
				if test.allow == nil {
					return
				}
				ln.Allow = []netip.Prefix{}
				for _, s := range test.allow {
					ln.Allow = append(ln.Allow, netip.MustParsePrefix(s))
				}
			}})
			denied := since("refused_allow")
			var want uint64
			var served int64
			for client, ok := range map[netip.AddrPort]bool{inside: test.in, outside: test.out} {
				if !ok {
					want++
					if err := Rejected(r.front, Socket{Local: client}); err != nil {
						t.Errorf("from %v: %v", client, err)
					}
					continue
				}
				served++
				buf := make([]byte, 2)
				n, err := DialFrom(t, r.front, Socket{Local: client}).Conn().Read(buf)
				if string(buf[:n]) != "A" {
					t.Errorf("from %v: %q, %v", client, buf[:n], err)
				}
			}
			counts(t, "refused_allow", denied, want)
			if got := r.backends[0].Accepted(); got != served {
				t.Errorf("the backend has seen %d connections, want %d", got, served)
			}
		})
	}
}
