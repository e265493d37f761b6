package compile

import (
	"net/netip"
	"testing"

	"dill/controlplane/source"
)

func snapshot(from string, services ...source.Service) source.Snapshot {
	return source.Snapshot{Source: from, Synced: true, Services: services}
}

// asks is a one-instance service that claims these listeners.
func asks(name string, index uint64, claims ...string) source.Service {
	var tags []string
	for _, c := range claims {
		tags = append(tags, "dill.listener="+c)
	}
	in := inst(1, tags...)
	in.ID = name + "1"
	return svc(name, index, in)
}

func TestNewcomersByRank(t *testing.T) {
	for _, tt := range []struct {
		name      string
		snapshots []source.Snapshot
		want      string
	}{
		{"source order", []source.Snapshot{
			snapshot("http", asks("a", 1, "local:5000")), snapshot("nomad", asks("a", 1, "local:5000")),
			snapshot("consul", asks("a", 1, "local:5000")), snapshot("file", asks("z", 9, "local:5000")),
		}, "file/z z1"},
		{"consul before nomad", []source.Snapshot{
			snapshot("nomad", asks("a", 1, "local:5000")), snapshot("consul", asks("b", 9, "local:5000")),
		}, "consul/b b1"},
		{"nomad before http", []source.Snapshot{
			snapshot("nomad", asks("b", 9, "local:5000")), snapshot("http", asks("a", 1, "local:5000")),
		}, "nomad/b b1"},
		{"unknown source last", []source.Snapshot{
			snapshot("etcd", asks("a", 1, "local:5000")), snapshot("http", asks("b", 9, "local:5000")),
		}, "http/b b1"},
		{"lowest index", []source.Snapshot{consul(asks("a", 7, "local:5000"), asks("b", 6, "local:5000"))}, "consul/b b1"},
		{"name", []source.Snapshot{consul(asks("b", 6, "local:5000"), asks("a", 6, "local:5000"))}, "consul/a a1"},
	} {
		r := compileAll(tt.snapshots...)
		t.Run(tt.name, func(t *testing.T) {
			wantServed(t, r, "127.0.0.1:5000 "+tt.want)
			if len(r.Refused) != len(tt.snapshots)-1 && len(tt.snapshots) > 1 {
				t.Errorf("refused %+v", r.Refused)
			}
		})
	}
}

func TestLoserIsShownWithTheOwner(t *testing.T) {
	r := compileAll(consul(asks("api", 1, "any:5000"), asks("web", 2, "any:5000", "local:5000", "local:6000")))
	wantServed(t, r, "0.0.0.0:5000 consul/api api1", "127.0.0.1:6000 consul/web web1")
	wantRefused(t, r,
		"consul/web web1|dill.listener=any:5000|owned by consul/api",
		"consul/web web1|dill.listener=local:5000|overlaps 0.0.0.0:5000, owned by consul/api")
}

// TestIncumbentKeepsItsPort while any registered instance claims it, in
// whatever state; after that the other one has it.
func TestIncumbentKeepsItsPort(t *testing.T) {
	owner := map[netip.AddrPort]string{ap("127.0.0.1:5000"): "consul/web"}
	web := asks("web", 9, "local:5000")
	for _, h := range []source.Health{source.Passing, source.Warning, source.Critical, source.Maintenance} {
		web.Instances[0].Health = h
		r := Compile(config(), Input{Incumbents: owner, Snapshots: []source.Snapshot{
			snapshot("file", asks("a", 1, "local:5000")), consul(asks("api", 1, "local:5000"), web),
		}})
		want := "127.0.0.1:5000 consul/web"
		if h == source.Passing {
			want += " web1"
		}
		wantServed(t, r, want)
		wantRefused(t, r, "consul/api api1|dill.listener=local:5000|owned by consul/web",
			"file/a a1|dill.listener=local:5000|owned by consul/web")
	}
	r := Compile(config(), Input{Incumbents: owner, Snapshots: []source.Snapshot{
		consul(asks("api", 1, "local:5000"), asks("web", 9, "local:5001")),
	}})
	wantServed(t, r, "127.0.0.1:5000 consul/api api1", "127.0.0.1:5001 consul/web web1")
}

// TestRollingReplacementOfTheOwner replaces the owner's instances one by one;
// the service with the older index never gets the port.
func TestRollingReplacementOfTheOwner(t *testing.T) {
	owners := map[netip.AddrPort]string{ap("127.0.0.1:5000"): "consul/web"}
	api := asks("api", 1, "local:5000")
	for _, instances := range [][]source.Instance{
		{inst(1, claim5000), inst(2, claim5000)},
		{inst(2, claim5000), inst(3, claim5000)},
		{health(inst(3, claim5000), source.Critical), health(inst(4, claim5000), source.Critical)},
		{inst(4, claim5000)},
	} {
		r := Compile(config(), Input{Incumbents: owners, Snapshots: []source.Snapshot{consul(api, svc("web", instances[0].CreateIndex+10, instances...))}})
		if l := only(t, r); l.Owner != "consul/web" {
			t.Fatalf("moved to %s", l.Owner)
		}
		clear(owners)
		for _, l := range r.Listeners {
			owners[l.Addr] = l.Owner
		}
	}
}

func TestIncumbentOfAnOverlappingAddress(t *testing.T) {
	for _, tt := range []struct {
		name   string
		owners map[netip.AddrPort]string
		want   []string
	}{
		{"wide", map[netip.AddrPort]string{ap("0.0.0.0:5000"): "consul/web"}, []string{"0.0.0.0:5000 consul/web web1"}},
		{"narrow", map[netip.AddrPort]string{ap("127.0.0.1:5000"): "consul/api"}, []string{"127.0.0.1:5000 consul/api api1"}},
		// web had 127.0.0.1 and widens: that makes it senior to a newcomer.
		{"widening", map[netip.AddrPort]string{ap("127.0.0.1:5000"): "consul/web"}, []string{"0.0.0.0:5000 consul/web web1"}},
		// … but not to one that owns the very address.
		{"mapped", map[netip.AddrPort]string{ap("[::ffff:127.0.0.1]:5000"): "consul/api", ap("192.0.2.1:5000"): "consul/web"}, []string{"127.0.0.1:5000 consul/api api1"}},
		{"nobody's", map[netip.AddrPort]string{ap("0.0.0.0:5000"): "consul/gone", ap("0.0.0.0:5001"): "consul/web"}, []string{"127.0.0.1:5000 consul/api api1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			wantServed(t, Compile(config(), Input{Incumbents: tt.owners, Snapshots: []source.Snapshot{
				consul(asks("api", 1, "local:5000"), asks("web", 2, "any:5000")),
			}}), tt.want...)
		})
	}
}

func TestOverlappingAddresses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		claims [2]string
		both   bool
	}{
		{"same", [2]string{"local:5000", "local:5000"}, false},
		{"two labels, one address", [2]string{"local:5000", "other:5000"}, false},
		{"wide and narrow", [2]string{"any:5000", "lan:5000"}, false},
		{"narrow and wide", [2]string{"lan:5000", "any:5000"}, false},
		{"wide and narrow v6", [2]string{"any6:5000", "six:5000"}, false},
		{"two narrow", [2]string{"lan:5000", "local:5000"}, true},
		{"v4 and v6", [2]string{"any:5000", "any6:5000"}, true},
		{"v4 and narrow v6", [2]string{"any:5000", "six:5000"}, true},
		{"two ports", [2]string{"any:5000", "any:5001"}, true},
	} {
		r := compileAll(consul(asks("a", 1, tt.claims[0]), asks("b", 2, tt.claims[1])))
		if got := len(r.Listeners) == 2; got != tt.both {
			t.Errorf("%s: serves %q", tt.name, served(r))
		}
		if got := len(r.Refused) == 0; got != tt.both {
			t.Errorf("%s: refused %+v", tt.name, r.Refused)
		}
	}
}

// TestOneServiceOnOverlappingAddresses: it has the wider one, unless that
// would cost instances that stand behind an open narrower one only.
func TestOneServiceOnOverlappingAddresses(t *testing.T) {
	r := compileAll(consul(asks("web", 1, "local:5000", "any:5000")))
	wantServed(t, r, "0.0.0.0:5000 consul/web web1")
	wantRefused(t, r, "consul/web web1|dill.listener=local:5000|covered by 0.0.0.0:5000 of the same service")

	narrow := map[netip.AddrPort]string{ap("127.0.0.1:5000"): "consul/web"}
	r = Compile(config(), Input{Incumbents: narrow, Snapshots: []source.Snapshot{consul(asks("web", 1, "local:5000", "any:5000"))}})
	wantServed(t, r, "0.0.0.0:5000 consul/web web1")
	wantRefused(t, r, "consul/web web1|dill.listener=local:5000|covered by")

	changing := consul(svc("web", 1, inst(1, claim5000), inst(2, "dill.listener=any:5000")))
	r = Compile(config(), Input{Incumbents: narrow, Snapshots: []source.Snapshot{changing}})
	wantServed(t, r, "127.0.0.1:5000 consul/web i1")
	wantRefused(t, r, "consul/web i2|dill.listener=any:5000|which some instances ask for alone")

	// Two open narrow ones; the wide one takes neither.
	narrow[ap("192.0.2.1:5000")] = "consul/web"
	both := consul(svc("web", 1, inst(1, claim5000, "dill.listener=lan:5000"), inst(2, claim5000, "dill.listener=any:5000")))
	r = Compile(config(), Input{Incumbents: narrow, Snapshots: []source.Snapshot{both}})
	wantServed(t, r, "127.0.0.1:5000 consul/web i1,i2", "192.0.2.1:5000 consul/web i1")
}

func TestReservedAddresses(t *testing.T) {
	opt := config()
	opt.Reserved = []netip.AddrPort{ap("[::]:2323"), ap("192.0.2.1:2424"), ap("0.0.0.0:2525")}
	r := Compile(opt, Input{Snapshots: []source.Snapshot{consul(asks("web", 1,
		"local:2323", "six:2323", "any6:2323", "any:2323", "any:2424", "lan:2424", "local:2424", "six:2424", "local:2525", "six:2525"))}})
	wantServed(t, r, "127.0.0.1:2424 consul/web web1", "[::1]:2424 consul/web web1", "[::1]:2525 consul/web web1")
}
