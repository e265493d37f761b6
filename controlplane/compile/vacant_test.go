package compile

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"dill/controlplane/source"
)

// TestClaimOnABackendsPortTakesNothing: whoever claims the port at which another
// service's backend is registered gets a reason, and the other keeps its backend.
func TestClaimOnABackendsPortTakesNothing(t *testing.T) {
	for _, tt := range []struct {
		claim, host string
		taken       bool
	}{
		{"local:6000", "127.0.0.1", true},
		{"local:6000", "0.0.0.0", true},
		{"local:6000", "10.0.0.1", false},
		{"local:6000", "192.0.2.1", false},
		{"local:6001", "127.0.0.1", false},
		{"any:6000", "127.0.0.1", true},
		{"any:6000", "192.0.2.1", true}, // an address of this host
		{"any:6000", "10.0.0.1", false}, // of another
		{"any:6000", "::1", false},
		{"any6:6000", "2001:db8::1", true},
		{"lan:6000", "192.0.2.1", true},
		{"local:6000", "local.test", true},
		{"local:6000", "slow.test", false}, // nobody knows yet
	} {
		for _, h := range []source.Health{source.Passing, source.Warning, source.Critical, source.Maintenance} {
			names := func(host string) ([]netip.Addr, error) {
				if host == "local.test" {
					return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
				}
				return hosts(host)
			}
			a := svc("a", 9, health(at(inst(1, "dill.listener=local:5000"), tt.host, 6000), h))
			b := asks("b", 1, tt.claim)
			r := Compile(config(), Input{Hosts: names, Snapshots: []source.Snapshot{consul(b), snapshot("file", a)}})
			for _, l := range r.Listeners {
				switch {
				case l.Owner == "consul/b" && tt.taken:
					t.Errorf("%s is served although %v %s port 6000 is registered", tt.claim, h, tt.host)
				case l.Owner == "file/a" && h == source.Passing && len(l.Backends) != 1 && tt.host != "slow.test":
					t.Errorf("%s takes a's backend at %s", tt.claim, tt.host)
				}
			}
			refused := false
			for _, f := range r.Refused {
				refused = refused || f.Service == "consul/b" && strings.HasPrefix(f.Reason, "taken by a backend of file/a (i1 at ")
			}
			if refused != tt.taken {
				t.Errorf("%s with %v %s port 6000: refused %+v", tt.claim, h, tt.host, r.Refused)
			}
		}
	}
}

// TestBackendThatIsBoundToAllAddresses, whichever of this host's it is registered
// at, could not be started again if dill took one from it while it is away. Found
// in use, the address is refused for as long as the backend is registered; where
// each has an address of its own, the same port is served beside it.
func TestBackendThatIsBoundToAllAddresses(t *testing.T) {
	for _, tt := range []struct {
		claim, inUse, host string
		taken              bool
	}{
		{"local:6000", "127.0.0.1:6000", "192.0.2.1", true},
		{"local:6000", "127.0.0.1:6000", "127.0.0.2", true},
		{"local:6000", "127.0.0.1:6000", "2001:db8::1", true}, // [::] is for IPv4 as well
		{"lan:6000", "192.0.2.1:6000", "127.0.0.1", true},
		{"lan:6000", "192.0.2.1:6000", "0.0.0.0", true},
		{"any6:6000", "[::]:6000", "192.0.2.1", true},
		{"local:6000", "127.0.0.1:6000", "10.0.0.9", false}, // of another host
		{"local:6000", "192.0.2.1:6000", "127.0.0.2", false},
		{"local:6001", "127.0.0.1:6001", "192.0.2.1", false}, // another port
	} {
		in := Input{InUse: []netip.AddrPort{ap(tt.inUse)}, Snapshots: []source.Snapshot{consul(
			svc("a", 9, health(at(inst(1, "dill.listener=local:5000"), tt.host, 6000), source.Critical)), asks("b", 1, tt.claim))}}
		check := func(when string, taken bool) Result {
			t.Helper()
			r := Compile(config(), in)
			why := "taken by a backend of consul/a (i1 at " + netip.AddrPortFrom(netip.MustParseAddr(tt.host), 6000).String() + "): " + tt.inUse + " is in use"
			if is := len(r.Refused) == 1 && r.Refused[0].Service == "consul/b" && r.Refused[0].Reason == why; is != taken || !taken && len(r.Refused) > 0 {
				t.Errorf("%+v, %s: refused %+v", tt, when, r.Refused)
			}
			if kept := len(r.InUse) > 0; kept != taken || taken && !slices.Equal(r.InUse, in.InUse) {
				t.Errorf("%+v, %s: %v is kept in mind", tt, when, r.InUse)
			}
			return r
		}
		in.InUse = check("tried", tt.taken).InUse
		check("not tried any more", tt.taken)
		in.Bound = []netip.AddrPort{ap(tt.inUse)}
		check("bound", false)
		in.Bound, in.Reopening = nil, map[netip.AddrPort]string{ap(tt.inUse): "consul/b"}
		check("bound before a restart", false)
		in.Reopening, in.Snapshots[0].Services = nil, in.Snapshots[0].Services[1:]
		check("deregistered", false)
	}
}

// TestOwnBackendDoesNotRefuseItsClaim, as it never did.
func TestOwnBackendDoesNotRefuseItsClaim(t *testing.T) {
	in := Input{InUse: []netip.AddrPort{ap("127.0.0.1:6000")}, Snapshots: []source.Snapshot{consul(
		svc("a", 1, at(inst(1, "dill.listener=local:6000"), "192.0.2.1", 6000)))}}
	r := Compile(config(), in)
	wantServed(t, r, "127.0.0.1:6000 consul/a i1")
	if len(r.InUse) > 0 {
		t.Errorf("%v is kept in mind", r.InUse)
	}
}

// TestProxyOnAllAddresses: what holds for a backend holds for its proxy, and for
// what dill itself asks.
func TestProxyOnAllAddresses(t *testing.T) {
	opt := config()
	opt.Upstreams = []Upstream{{"consul.address", "192.0.2.1", 8500}}
	in := Input{
		InUse: []netip.AddrPort{ap("127.0.0.1:6001"), ap("127.0.0.1:8500")},
		Snapshots: []source.Snapshot{
			consul(svc("a", 1, at(inst(1, claim5000, "dill.proxy=socks5://192.0.2.1:6001"), "10.0.0.9", 80)), asks("b", 2, "local:6001", "local:8500")),
			snapshot("file", asks("servers", 1, "local:8500")),
		},
	}
	r := Compile(opt, in)
	wantServed(t, r, "127.0.0.1:5000 consul/a i1", "127.0.0.1:8500 file/servers servers1")
	wantRefused(t, r, "consul/b b1|dill.listener=local:6001|taken by a backend of consul/a (i1 at 192.0.2.1:6001): 127.0.0.1:6001 is in use",
		"consul/b b1|dill.listener=local:8500|taken by what dill itself asks (consul.address): 127.0.0.1:8500 is in use")
	if !slices.Equal(r.InUse, in.InUse) {
		t.Errorf("kept in mind: %v", r.InUse)
	}
}

// TestBoundFirstKeepsItsPort: there it is the backend that is refused, and the
// listener stays whoever owns it next.
func TestBoundFirstKeepsItsPort(t *testing.T) {
	in := Input{
		Snapshots: []source.Snapshot{consul(
			svc("a", 1, at(inst(1, "dill.listener=local:5000"), "127.0.0.1", 6000), inst(2, "dill.listener=local:5000")),
			asks("b", 2, "local:6000"))},
		Bound: []netip.AddrPort{ap("127.0.0.1:5000"), ap("127.0.0.1:6000")},
	}
	r := Compile(config(), in)
	wantServed(t, r, "127.0.0.1:5000 consul/a i2", "127.0.0.1:6000 consul/b b1")
	wantRefused(t, r, "consul/a i1|dill.listener=local:5000|not served: connections would reach dill itself (127.0.0.1:6000)")
	// One that dill has bound does not make room for a wider one that it has not.
	in.Snapshots = append(in.Snapshots, snapshot("file", svc("c", 1, at(inst(1, "dill.listener=local:5001"), "192.0.2.1", 6000))))
	in.Snapshots[0].Services[1] = asks("b", 2, "local:6000", "any:6000")
	r = Compile(config(), in)
	wantServed(t, r, "127.0.0.1:5000 consul/a i2", "127.0.0.1:5001 file/c i1", "127.0.0.1:6000 consul/b b1")
	// A backend that is refused is not in the way.
	in.Snapshots = in.Snapshots[:1]
	wantServed(t, Compile(config(), in), "0.0.0.0:6000 consul/b b1", "127.0.0.1:5000 consul/a i2")
}

// TestUnboundClaimTakesNothing, not even from its own service: nothing can be
// opened where its backend stands, and its other ports need that.
func TestUnboundClaimTakesNothing(t *testing.T) {
	web := consul(svc("web", 1, at(inst(1, "dill.listener=local:8080", "dill.listener=local:9090"), "127.0.0.1", 8080),
		inst(2, "dill.listener=local:8080", "dill.listener=local:9090")))
	in := Input{Snapshots: []source.Snapshot{web}, Bound: []netip.AddrPort{ap("127.0.0.1:9090")}}
	wantServed(t, Compile(config(), in), "127.0.0.1:8080 consul/web i2", "127.0.0.1:9090 consul/web i2,i1")
	in.Bound = []netip.AddrPort{ap("127.0.0.1:8080"), ap("127.0.0.1:9090")}
	wantServed(t, Compile(config(), in), "127.0.0.1:8080 consul/web i2", "127.0.0.1:9090 consul/web i2")
}

// TestOpenPortIsNotClosedForAWiderOne that cannot be opened, since the service's
// own backend has the port on another address of this host.
func TestOpenPortIsNotClosedForAWiderOne(t *testing.T) {
	in := Input{
		Snapshots:  []source.Snapshot{consul(svc("web", 1, at(inst(1, "dill.listener=local:8080", "dill.listener=any:8080"), "192.0.2.1", 8080)))},
		Bound:      []netip.AddrPort{ap("127.0.0.1:8080")},
		Incumbents: map[netip.AddrPort]string{ap("127.0.0.1:8080"): "consul/web"},
	}
	r := Compile(config(), in)
	wantServed(t, r, "127.0.0.1:8080 consul/web i1")
	wantRefused(t, r, "consul/web i1|dill.listener=any:8080|taken by a backend of consul/web (i1 at 192.0.2.1:8080)")
	// Nothing is lost where nothing stands.
	in.Snapshots[0].Services[0].Instances[0].Host = "192.0.2.9"
	wantServed(t, Compile(config(), in), "0.0.0.0:8080 consul/web i1")
}

// TestRefusedClaimIsNoContender: it does not keep the port from a service that
// could have it.
func TestRefusedClaimIsNoContender(t *testing.T) {
	a := svc("a", 9, at(inst(1, "dill.listener=local:6000"), "127.0.0.1", 6000), inst(2, "dill.listener=local:6000"))
	r := compileAll(consul(asks("b", 1, "local:6000"), a))
	wantServed(t, r, "127.0.0.1:6000 consul/a i2")
}

// TestIncumbentIsNotDislodged: while the port is closed, since the incumbent is
// critical, nobody gets it by a claim and a backend at it.
func TestIncumbentIsNotDislodged(t *testing.T) {
	for _, claim := range []string{"local:6000", "any:6000"} {
		tag := "dill.listener=" + claim
		thief := svc("thief", 9, at(inst(1, tag), "127.0.0.1", 6000), inst(2, tag))
		for _, h := range []source.Health{source.Passing, source.Critical} {
			web := asks("web", 1, "local:6000")
			web.Instances[0].Health = h
			r := Compile(config(), Input{
				Snapshots:  []source.Snapshot{consul(web, thief)},
				Incumbents: map[netip.AddrPort]string{ap("127.0.0.1:6000"): "consul/web"},
			})
			if l := only(t, r); l.Owner != "consul/web" {
				t.Errorf("%s has the port while web is %v", l.Owner, h)
			}
		}
	}
}

// TestPortOfASourceIsNotGivenAway: while Consul is restarted its port is free.
// Behind the port a service may well have it as its backend.
func TestPortOfASourceIsNotGivenAway(t *testing.T) {
	opt := config()
	opt.Upstreams = []Upstream{{"nomad.address", "10.0.0.1", 8501}, {"consul.address", "127.0.0.1", 8500}}
	r := Compile(opt, Input{Snapshots: []source.Snapshot{
		consul(asks("a", 1, "local:8500"), asks("b", 2, "any:8500"), asks("c", 3, "lan:8500"), asks("d", 4, "local:8501"),
			svc("ui", 5, at(inst(1, claim5000), "127.0.0.1", 8500))),
	}})
	wantServed(t, r, "127.0.0.1:5000 consul/ui i1", "127.0.0.1:8501 consul/d d1", "192.0.2.1:8500 consul/c c1")
	wantRefused(t, r, "consul/a a1|dill.listener=local:8500|taken by what dill itself asks (consul.address)",
		"consul/b b1|dill.listener=any:8500|taken by what dill itself asks (consul.address)")

	r = Compile(opt, Input{Snapshots: []source.Snapshot{snapshot("file", asks("servers", 1, "local:8500"))}})
	wantServed(t, r, "127.0.0.1:8500 file/servers servers1")
}

// TestProxyIsThere: the proxy of an instance has a port, too, and what is behind
// it is somewhere else.
func TestProxyIsThere(t *testing.T) {
	a := svc("a", 1, at(inst(1, claim5000, "dill.proxy=socks5://127.0.0.1:6001"), "127.0.0.1", 6000))
	r := compileAll(consul(a, asks("b", 2, "local:6000", "local:6001")))
	wantServed(t, r, "127.0.0.1:5000 consul/a i1", "127.0.0.1:6000 consul/b b1")
	wantRefused(t, r, "consul/b b1|dill.listener=local:6001|taken by a backend of consul/a (i1 at 127.0.0.1:6001)")
}

// TestMemoMoved: an address that comes to this host is noticed.
func TestMemoMoved(t *testing.T) {
	var m Memo
	here := false
	opt := config()
	opt.Local = func(netip.Addr) bool { return here }
	in := Input{
		Snapshots: []source.Snapshot{consul(svc("a", 1, at(inst(1, "dill.listener=any:6000"), "10.0.0.9", 6000)), asks("b", 2, "local:5000"))},
		Bound:     []netip.AddrPort{ap("0.0.0.0:6000"), ap("127.0.0.1:5000")},
	}
	before := m.Compile(opt, in)
	wantServed(t, before, "0.0.0.0:6000 consul/a i1", "127.0.0.1:5000 consul/b b1")
	here = true
	m.Moved()
	after := m.Compile(opt, in)
	wantServed(t, after, "0.0.0.0:6000 consul/a", "127.0.0.1:5000 consul/b b1")
	if after.Listeners[1] != before.Listeners[1] {
		t.Error("what does not depend on it was worked out anew")
	}
}
