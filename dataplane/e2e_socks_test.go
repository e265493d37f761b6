package dataplane_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"dill/dataplane"
	. "dill/dataplane/dptest"
	"dill/dataplane/route"
)

// via has each backend reached through the SOCKS5 server.
func via(s *Socks, user, password string) func(*route.Backend) {
	return func(b *route.Backend) {
		b.Socks = &route.Socks{Addr: s.Backend.Addr(), User: user, Password: password}
	}
}

// TestSocks: the relay through a SOCKS5 proxy is as good as a direct one,
// however the proxy phrases and cuts its answers.
func TestSocks(t *testing.T) {
	ipv6 := append([]byte{4}, make([]byte, 18)...)
	domain := append([]byte{3, 255}, bytes.Repeat([]byte{'x'}, 255+2)...)
	servers := []struct {
		name           string
		socks          *Socks
		user, password string
	}{
		{"plain", &Socks{}, "", ""},
		{"password", &Socks{User: "ann", Password: "s3cret"}, "ann", "s3cret"},
		{"long password", &Socks{User: string(bytes.Repeat([]byte{'u'}, 255)), Password: string(bytes.Repeat([]byte{'p'}, 255))},
			string(bytes.Repeat([]byte{'u'}, 255)), string(bytes.Repeat([]byte{'p'}, 255))},
		{"password not asked for", &Socks{}, "ann", "s3cret"},
		{"byte by byte", &Socks{User: "ann", Password: "s3cret", Dribble: true}, "ann", "s3cret"},
		{"bound to an IPv6 address", &Socks{Bound: ipv6}, "", ""},
		{"bound to a domain name", &Socks{Bound: domain, Dribble: true}, "", ""},
	}
	const n = 3 << 20
	scripts := []script{
		{"client first",
			[]Op{Write(n), HalfClose(), ReadToEOF(n), Close()},
			[]Op{ReadToEOF(n), Write(n), Close()}},
		{"server first",
			[]Op{ReadToEOF(n), Write(n), Close()},
			[]Op{Write(n), HalfClose(), ReadToEOF(n), Close()}},
		{"client ends at once",
			[]Op{HalfClose(), ReadToEOF(10), Close()},
			[]Op{ReadToEOF(0), Write(10), Close()}},
	}
	for _, s := range servers {
		for _, mode := range []string{"copy", "splice"} {
			t.Run(s.name+" "+mode, func(t *testing.T) {
				proxy := &Socks{User: s.socks.User, Password: s.socks.Password, Bound: s.socks.Bound, Dribble: s.socks.Dribble}
				proxy.Start(t)
				r := start(t, setup{cfg: dataplane.Config{Splice: modes[mode]}, backend: via(proxy, s.user, s.password)})
				spliced := since("spliced_bytes")
				for _, s := range scripts {
					t.Run(s.name, func(t *testing.T) { r.play(t, s.client, s.server) })
				}
				if proxy.Requests() != int64(len(scripts)) {
					t.Errorf("the proxy had %d requests, want %d", proxy.Requests(), len(scripts))
				}
				if mode == "splice" && spliced() < n {
					t.Errorf("only %d bytes were spliced", spliced())
				}
			})
		}
	}
}

// TestSocksEarlyServerData: bytes that come in one segment with the proxy's
// last answer belong to the stream.
func TestSocksEarlyServerData(t *testing.T) {
	for mode, splice := range modes {
		t.Run(mode, func(t *testing.T) {
			proxy := (&Socks{Hasty: true}).Start(t)
			r := start(t, setup{cfg: dataplane.Config{Splice: splice}, backend: via(proxy, "", "")})
			client := Dial(t, r.front)
			server := r.backends[0].Accept(t)
			Pair(client, server)
			Play(t,
				Role{Name: "client", Peer: client, Ops: []Op{Read(100_000), Write(10), ReadToEOF(100_000), Close()}},
				Role{Name: "server", Peer: server, Ops: []Op{Write(100_000), Read(10), Close()}})
		})
	}
}

// TestSocksIPv6Target: a backend with an IPv6 address behind the proxy.
func TestSocksIPv6Target(t *testing.T) {
	backend := ListenOn(t, FreeAddr6(t), Socket{}, Say("six"))
	proxy := new(Socks).Start(t)
	r := start(t, setup{backends: -1, dead: []netip.AddrPort{backend.Addr()}, backend: via(proxy, "", "")})
	if got := r.ask(t); got != "six" {
		t.Errorf("%q answered", got)
	}
}

// TestSocksAsksForNames: a backend with a name is the proxy's to look up, and
// two of them on one port are two backends.
func TestSocksAsksForNames(t *testing.T) {
	long := strings.Repeat("n", 255)
	one, two := Serve(t, Say("one")), Serve(t, Say("two"))
	for _, tt := range []struct{ name, first, user string }{
		{"plain", "db.internal", ""}, {"password", "db.internal", "ann"}, {"the longest name", long, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			proxy := (&Socks{User: tt.user, Password: tt.user, Names: map[string]netip.Addr{
				tt.first: one.Addr().Addr(), "other.internal": two.Addr().Addr(),
			}}).Start(t)
			r := start(t, setup{backends: -1})
			ln := r.listener()
			for host, b := range map[string]*Backend{tt.first: one, "other.internal": two} {
				to := &route.Backend{Addr: netip.AddrPortFrom(netip.Addr{}, b.Addr().Port()), Host: host, Weight: 1}
				via(proxy, tt.user, tt.user)(to)
				ln.Backends = append(ln.Backends, to)
			}
			r.publish(t, ln)
			got := []string{r.ask(t), r.ask(t)}
			if slices.Sort(got); !slices.Equal(got, []string{"one", "two"}) {
				t.Errorf("%q answered", got)
			}
		})
	}
}

// TestSocksProxyProtocol: the header goes through the SOCKS5 proxy to the
// backend, not to the proxy.
func TestSocksProxyProtocol(t *testing.T) {
	proxy := new(Socks).Start(t)
	r := start(t, setup{backend: func(b *route.Backend) {
		via(proxy, "", "")(b)
		b.ProxyProtocol = 2
	}})
	client, server := r.open(t)
	expectHeader(t, server, proxyHeader(2, client.Local(), r.front))
	Play(t,
		Role{Name: "client", Peer: client, Ops: []Op{Write(1000), HalfClose(), ReadToEOF(10), Close()}},
		Role{Name: "server", Peer: server, Ops: []Op{ReadToEOF(1000), Write(10), Close()}})
}

// TestSocksRefuses: a proxy that refuses, lies or falls silent is a backend
// that failed: the next one is tried, and with none left the client is reset.
func TestSocksRefuses(t *testing.T) {
	tests := map[string]*Socks{
		"no method":              {User: "somebody", Method: 0xff},
		"a method nobody asked":  {Method: 7},
		"wrong password":         {User: "ann", Password: "other"},
		"password status 255":    {User: "ann", Password: "s3cret", Status: 255},
		"a web server":           {Garbage: []byte("HTTP/1.1 400 Bad Request\r\n\r\n")},
		"another SOCKS version":  {Garbage: []byte{4, 0}},
		"one byte, then the end": {Garbage: []byte{5}},
		"nothing, then the end":  {Garbage: []byte{}},
		"unknown address type":   {Bound: []byte{9, 0, 0, 0, 0, 0, 0}},
		"silence":                {Silent: true},
		"more than was asked":    {Garbage: bytes.Repeat([]byte{5}, 100_000)},
		"byte by byte and wrong": {User: "ann", Password: "other", Dribble: true},
	}
	for code := byte(1); code <= 9; code++ {
		tests[fmt.Sprintf("reply %d", code)] = &Socks{Reply: code}
	}
	for name, proxy := range tests {
		t.Run(name, func(t *testing.T) {
			proxy.Start(t)
			cfg := dataplane.Config{EjectAfter: -1, ConnectTimeout: 200 * time.Millisecond}
			r := start(t, setup{cfg: cfg, backend: via(proxy, "ann", "s3cret")})
			failed := since("connect_failed")
			begun := time.Now()
			r.rejected(t)
			took(t, "the reset", time.Since(begun), 0, 2*time.Second)
			Eventually(t, "a failed attempt is counted", func() bool { return failed() > 0 })
			// With a direct backend beside it, nobody notices.
			direct := Serve(t, Say("direct"))
			ln := r.listener()
			ln.Backends = append(ln.Backends, &route.Backend{Addr: direct.Addr(), Weight: 1})
			r.publish(t, ln)
			for range 2 {
				if got := r.ask(t); got != "direct" {
					t.Errorf("%q answered", got)
				}
			}
			if r.backends[0].Accepted() > 0 && name != "unknown address type" {
				t.Error("the backend behind the proxy was reached")
			}
		})
	}
}

// TestSocksClientLeaves: a client that resets during the handshake frees
// everything; one that has only ended is served.
func TestSocksClientLeaves(t *testing.T) {
	proxy := (&Socks{Silent: true}).Start(t)
	r := start(t, setup{backend: via(proxy, "", "")})
	var peers []*Peer
	for i := range 10 {
		peers = append(peers, Dial(t, r.front))
		Eventually(t, "the handshake is under way", func() bool { return proxy.Backend.Accepted() == int64(i+1) })
	}
	for _, p := range peers {
		p.Must(t, Reset())
	}
	Within(t, 2*time.Second, "all sessions are gone", func() bool { return dataplane.Stats().Sessions == 0 })
}

// TestSocksSecretsAreNotLogged: neither user nor password appears in the log of
// a failed handshake.
func TestSocksSecretsAreNotLogged(t *testing.T) {
	proxy := (&Socks{User: "ann", Password: "other"}).Start(t)
	r := start(t, setup{cfg: dataplane.Config{EjectAfter: 1}, backends: 2, backend: via(proxy, "ann", "s3cret")})
	for range 5 {
		r.rejected(t)
	}
	Eventually(t, "the failure is logged", func() bool {
		return r.log.contains(r.backends[0].Addr().String()) || r.log.contains(r.backends[1].Addr().String())
	})
	if r.log.contains("s3cret") || r.log.contains("ann") {
		t.Errorf("a secret is in the log:\n%s", r.log)
	}
}
