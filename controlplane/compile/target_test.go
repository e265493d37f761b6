package compile

import (
	"net/netip"
	"slices"
	"testing"

	"dill/controlplane/resolve"
	"dill/controlplane/source"
	"dill/dataplane/route"
)

// at moves an instance.
func at(i source.Instance, host string, port int) source.Instance {
	i.Host, i.Port = host, port
	return i
}

func TestBackendAddresses(t *testing.T) {
	for _, tt := range []struct {
		host   string
		port   int
		want   []string
		reason string
	}{
		{"10.0.0.1", 80, []string{"10.0.0.1:80"}, ""},
		{"::ffff:10.0.0.1", 80, []string{"10.0.0.1:80"}, ""},
		{"2001:db8::2", 65535, []string{"[2001:db8::2]:65535"}, ""},
		{"web.test", 80, []string{"10.9.0.1:80", "10.9.0.2:80"}, ""},
		{"slow.test", 80, nil, "host slow.test: being looked up"},
		{"", 80, nil, "no address"},
		{"10.0.0.1", 0, nil, "port 0; want 1 to 65535"},
		{"10.0.0.1", 65536, nil, "port 65536"},
		{"10.0.0.1", -1, nil, "port -1"},
		{"fe80::1%eth0", 80, nil, "zone"},
		{"224.0.0.1", 80, nil, "multicast"},
	} {
		r := compileAll(consul(svc("web", 1, at(inst(1, claim5000), tt.host, tt.port))))
		var got []string
		for _, b := range only(t, r).Backends {
			got = append(got, b.Addr.String())
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s port %d: %q, want %q", tt.host, tt.port, got, tt.want)
		}
		if tt.reason == "" {
			wantRefused(t, r)
		} else {
			wantRefused(t, r, "consul/web i1|"+claim5000+"|"+tt.reason)
		}
	}
}

func TestNamesWithoutAResolver(t *testing.T) {
	r := Compile(config(), Input{Snapshots: []source.Snapshot{consul(svc("web", 1, at(inst(1, claim5000), "web.test", 80)))}})
	wantServed(t, r, "127.0.0.1:5000 consul/web")
	wantRefused(t, r, "consul/web i1|"+claim5000+"|web.test is no IP address")

	none := func(string) ([]netip.Addr, error) { return nil, nil }
	r = Compile(config(), Input{Hosts: none, Snapshots: []source.Snapshot{consul(svc("web", 1, at(inst(1, claim5000), "web.test", 80)))}})
	wantRefused(t, r, "consul/web i1|"+claim5000+"|host web.test: no address")
}

// TestProxyWithoutAnAddressIsNotBypassed: dill must not connect directly.
func TestProxyWithoutAnAddressIsNotBypassed(t *testing.T) {
	r := compileAll(consul(svc("web", 1, inst(1, claim5000, "dill.proxy=socks5://u:p@slow.test:1080"))))
	wantServed(t, r, "127.0.0.1:5000 consul/web")
	wantRefused(t, r, "consul/web i1|"+claim5000+"|not served: proxy: host slow.test: being looked up")
}

// TestNamesBehindAProxyAreNotLookedUp: the name is the proxy's, which may stand
// where alone it is known.
func TestNamesBehindAProxyAreNotLookedUp(t *testing.T) {
	proxied := func(n int, host string, port int) source.Instance {
		return at(inst(n, claim5000, "dill.proxy=socks5://u:p@10.0.0.9:1080"), host, port)
	}
	r := Compile(config(), Input{
		Hosts: func(host string) ([]netip.Addr, error) {
			t.Errorf("%s is looked up", host)
			return nil, resolve.ErrPending
		},
		Snapshots: []source.Snapshot{consul(svc("web", 1,
			proxied(1, "db.internal", 5432), proxied(2, "localhost", 5000), proxied(3, "10.0.0.3", 80),
			proxied(4, "db.internal", 0), proxied(5, "db.internal", 5432), proxied(6, "", 80)))},
	})
	var got []string
	for _, b := range only(t, r).Backends {
		if b.Socks == nil || b.Socks.Addr != ap("10.0.0.9:1080") {
			t.Errorf("%s goes through %v", b.Target(), b.Socks)
		}
		got = append(got, b.Instance+" "+b.Target())
	}
	if want := []string{"i2 localhost:5000", "i5 db.internal:5432", "i3 10.0.0.3:80"}; !slices.Equal(got, want) {
		t.Errorf("backends %q, want %q", got, want)
	}
	wantRefused(t, r, "consul/web i6|"+claim5000+"|no address", "consul/web i4|"+claim5000+"|port 0; want 1 to 65535",
		"consul/web i1|"+claim5000+"|same address as i5, which is registered later")
}

// TestOneNameBehindTwoProxies: localhost is another host at each of them, and so
// is a private address.
func TestOneNameBehindTwoProxies(t *testing.T) {
	for _, host := range []string{"localhost", "10.0.0.9"} {
		var all []source.Instance
		for i, proxy := range []string{"dill.proxy=socks5://192.0.2.7", "dill.proxy=socks5://192.0.2.8", "dill.weight=1"} {
			if host != "localhost" || i < 2 {
				all = append(all, at(inst(i+1, claim5000, proxy), host, 80))
			}
		}
		r := compileAll(consul(svc("web", 1, all...)))
		wantRefused(t, r)
		l := only(t, r)
		table := route.NewTable(1, []*route.Listener{l}, nil, nil)
		if n := len(table.Listeners[0].Backends); len(l.Backends) != len(all) || n != len(all) {
			t.Errorf("%s: %d backends, %d in a table, want %d", host, len(l.Backends), n, len(all))
		}
	}
}

// TestProxyURLs: as the original's library reads them.
func TestProxyURLs(t *testing.T) {
	for url, want := range map[string]string{
		"socks5://10.0.0.9:1081":   "10.0.0.9:1081",
		"socks5h://10.0.0.9:1081":  "10.0.0.9:1081",
		"socks5://10.0.0.9":        "10.0.0.9:1080",
		"socks5h://u:p@10.0.0.9/":  "10.0.0.9:1080",
		"socks5://[2001:db8::2]":   "[2001:db8::2]:1080",
		"SOCKS5://[2001:db8::2]:9": "[2001:db8::2]:9",
		"socks5://proxy.test":      "10.9.0.9:1080",
	} {
		r := compileAll(consul(svc("web", 1, inst(1, claim5000, "dill.proxy="+url))))
		wantRefused(t, r)
		if got := only(t, r).Backends[0].Socks.Addr; got != ap(want) {
			t.Errorf("%s is at %v, want %s", url, got, want)
		}
	}
}

func TestHealth(t *testing.T) {
	all := consul(svc("web", 1, inst(1, claim5000), health(inst(2, claim5000), source.Warning),
		health(inst(3, claim5000), source.Critical), health(inst(4, claim5000), source.Maintenance)))
	wantServed(t, compileAll(all), "127.0.0.1:5000 consul/web i1")
	opt := config()
	opt.AllowWarning = true
	wantServed(t, Compile(opt, Input{Snapshots: []source.Snapshot{all}}), "127.0.0.1:5000 consul/web i1,i2")

	r := compileAll(consul(svc("web", 1, health(inst(3, claim5000), source.Critical))))
	wantServed(t, r, "127.0.0.1:5000 consul/web")
	wantRefused(t, r)
}

// TestIdleListenersAreTold: why a port that is asked for has no backend, if it is
// health and nothing else.
func TestIdleListenersAreTold(t *testing.T) {
	warning, critical := health(inst(2, claim5000), source.Warning), health(inst(3, claim5000), source.Critical)
	drained := health(inst(4, claim5000), source.Maintenance)
	for _, tt := range []struct {
		instances []source.Instance
		want      string
	}{
		{[]source.Instance{critical}, "no instance is passing: 1 critical"},
		{[]source.Instance{warning, critical, drained, health(inst(5, claim5000), source.Critical)},
			"no instance is passing: 1 warning, 2 critical, 1 maintenance"},
		{[]source.Instance{inst(1, claim5000), critical}, ""},
		{[]source.Instance{at(inst(1, claim5000), "", 0), critical}, ""}, // refused, with a reason of its own
		{[]source.Instance{with(critical, func(i *source.Instance) { i.Faults = []source.Fault{{Reason: "unreadable"}} })}, ""},
	} {
		var m Memo
		for _, again := range []bool{false, true} {
			r := m.Compile(config(), Input{Snapshots: []source.Snapshot{consul(
				svc("good", 1, inst(9, "dill.listener=local:6000")), svc("web", 1, tt.instances...))}})
			var want []Idle
			if tt.want != "" {
				want = []Idle{{Addr: ap("127.0.0.1:5000"), Owner: "consul/web", Reason: tt.want}}
			}
			if !slices.Equal(r.Idle, want) {
				t.Errorf("idle %+v, want %+v (again: %v)", r.Idle, want, again)
			}
		}
	}
}

// Admitted are instances that warn, but not at a weight that Consul does not
// give them: what is registered with {"Passing": 10} has 0 for warnings.
func TestWarningWithoutWeightGetsNoTraffic(t *testing.T) {
	warning := func(weight int, tags ...string) source.Instance {
		return with(health(inst(2, append(tags, claim5000)...), source.Warning), func(i *source.Instance) { i.Weight = weight })
	}
	opt := config()
	opt.AllowWarning = true
	for _, tt := range []struct {
		in      source.Instance
		served  string
		refused []string
	}{
		{warning(source.NoTraffic), " i1", []string{"consul/web i2|" + claim5000 + "|not served: its checks warn, and its weight for that is 0"}},
		{warning(source.NoTraffic, "dill.weight=3"), " i1,i2", nil},
		{warning(0), " i1,i2", nil},
		{warning(4), " i1,i2", nil},
	} {
		r := Compile(opt, Input{Snapshots: []source.Snapshot{consul(svc("web", 1, inst(1, claim5000), tt.in))}})
		wantServed(t, r, "127.0.0.1:5000 consul/web"+tt.served)
		wantRefused(t, r, tt.refused...)
	}
	r := compileAll(consul(svc("web", 1, inst(1, claim5000), warning(source.NoTraffic))))
	wantRefused(t, r) // warnings are not admitted at all
}

func TestBackendsWithOneAddress(t *testing.T) {
	r := compileAll(consul(svc("web", 1,
		at(inst(1, claim5000, "dill.weight=1"), "10.0.0.9", 80), at(inst(2, claim5000, "dill.weight=2"), "10.0.0.9", 80))))
	wantServed(t, r, "127.0.0.1:5000 consul/web i2")
	wantRefused(t, r, "consul/web i1|"+claim5000+"|same address as i2, which is registered later")
	// The older one still serves when the newer does not.
	r = compileAll(consul(svc("web", 1,
		at(inst(1, claim5000), "10.0.0.9", 80), health(at(inst(2, claim5000), "10.0.0.9", 80), source.Critical))))
	wantServed(t, r, "127.0.0.1:5000 consul/web i1")
	wantRefused(t, r)
}

// TestBackendGivenTwiceHasTwiceTheShare: within one registration, which is what an
// entry of a routing file is.
func TestBackendGivenTwiceHasTwiceTheShare(t *testing.T) {
	twin := func(n int, tags ...string) source.Instance {
		return with(at(inst(n, append(tags, claim5000)...), "10.0.0.9", 80), func(i *source.Instance) { i.CreateIndex = 7 })
	}
	for _, tt := range []struct {
		instances []source.Instance
		weight    int
		refused   []string
	}{
		{[]source.Instance{twin(1), twin(2)}, 2, nil},
		{[]source.Instance{twin(1), twin(2), twin(3, "dill.weight=5")}, 7, nil},
		{[]source.Instance{twin(1, "dill.weight=65535"), twin(2, "dill.weight=65535")}, 65535, nil},
		{[]source.Instance{twin(1), twin(2, "dill.connect_timeout=1s")}, 1,
			[]string{"consul/web i2|" + claim5000 + "|same address as i1, with other options, which are not in force"}},
	} {
		r := compileAll(consul(svc("web", 1, tt.instances...)))
		if bs := only(t, r).Backends; len(bs) != 1 || bs[0].Weight != tt.weight || bs[0].Instance != "i1" {
			t.Errorf("%d backends, the first %+v, want weight %d", len(bs), bs[0], tt.weight)
		}
		wantRefused(t, r, tt.refused...)
	}
}

// TestLoops: a backend that is dill itself is refused, one that only has the
// same port is not.
func TestLoops(t *testing.T) {
	for _, tt := range []struct {
		claim, host string
		port        int
		loop        bool
	}{
		{"local:5000", "127.0.0.1", 5000, true},
		{"local:5000", "::ffff:127.0.0.1", 5000, true},
		{"local:5000", "0.0.0.0", 5000, true},
		{"local:5000", "127.0.0.1", 5001, false},
		{"local:5000", "127.0.0.2", 5000, false},
		{"local:5000", "192.0.2.1", 5000, false},
		{"local:5000", "::1", 5000, false},
		{"any:5000", "127.0.0.1", 5000, true},
		{"any:5000", "127.9.9.9", 5000, true},
		{"any:5000", "0.0.0.0", 5000, true},
		{"any:5000", "192.0.2.1", 5000, true},
		{"any:5000", "192.0.2.2", 5000, false},
		{"any:5000", "2001:db8::1", 5000, false},
		{"any:5000", "::", 5000, false},
		{"lan:5000", "192.0.2.1", 5000, true},
		{"lan:5000", "0.0.0.0", 5000, false},
		{"lan:5000", "127.0.0.1", 5000, false},
		{"any6:5000", "::1", 5000, true},
		{"any6:5000", "::", 5000, true},
		{"any6:5000", "2001:db8::1", 5000, true},
		{"any6:5000", "2001:db8::2", 5000, false},
		{"any6:5000", "127.0.0.1", 5000, false},
		{"any:6000", "127.0.0.1", 2323, true}, // Peek
		{"any:6000", "0.0.0.0", 2323, true},
		{"any:6000", "192.0.2.1", 2323, false},
	} {
		r := compileAll(consul(svc("web", 1, at(inst(1, "dill.listener="+tt.claim), tt.host, tt.port), at(inst(2, "dill.listener="+tt.claim), "10.0.0.2", 80))))
		if n := len(only(t, r).Backends); (n == 1) != tt.loop {
			t.Errorf("%s to %s port %d: %d backends", tt.claim, tt.host, tt.port, n)
		}
		if tt.loop {
			wantRefused(t, r, "consul/web i1|dill.listener="+tt.claim+"|not served: connections would reach dill itself (")
		}
	}
}

// TestLoopsThroughOthers: what dill has bound decides, not what is claimed.
func TestLoopsThroughOthers(t *testing.T) {
	circle := consul(
		svc("a", 1, at(inst(1, "dill.listener=local:5000"), "127.0.0.1", 5001)),
		svc("b", 2, at(inst(1, "dill.listener=local:5001"), "127.0.0.1", 5000)))
	r := Compile(config(), Input{Snapshots: []source.Snapshot{circle}, Bound: []netip.AddrPort{ap("127.0.0.1:5000"), ap("127.0.0.1:5001")}})
	wantServed(t, r, "127.0.0.1:5000 consul/a", "127.0.0.1:5001 consul/b")
	// A port that b does not get is no listener of dill's.
	r = compileAll(consul(
		svc("a", 1, at(inst(1, "dill.listener=local:5000"), "127.0.0.1", 80)),
		svc("b", 2, at(inst(1, "dill.listener=local:6000"), "127.0.0.1", 5001), at(inst(2, "dill.listener=any:80"), "10.0.0.1", 80))))
	wantServed(t, r, "127.0.0.1:5000 consul/a i1", "127.0.0.1:6000 consul/b i1")
	// What is behind a proxy is that proxy's business, the proxy is not.
	r = compileAll(consul(svc("a", 1,
		at(inst(1, claim5000, "dill.proxy=socks5://10.0.0.9:1080"), "127.0.0.1", 5000),
		inst(2, claim5000, "dill.proxy=socks5://127.0.0.1:5000"))))
	wantServed(t, r, "127.0.0.1:5000 consul/a i1")
}
