package compile

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"dill/controlplane/source"
	"dill/dataplane/route"
)

func TestBadClaims(t *testing.T) {
	labels := "allowed: any, any6, lan, local, other, six"
	for _, tt := range []struct{ value, claim, reason string }{
		{"any:80", "", "below 1024 (listeners.port_min)"},
		{"any:0", "", "below 1024"},
		{"local:99999", "", "above 49151 (listeners.port_max)"},
		{"local:49152", "", "above 49151"},
		{"local:99999999999999999999999", "", "above 49151"},
		{"nolabel:5000", "", labels},
		{":5000", "", labels},
		{"", "", "want <label>:<port>"},
		{"local", "", "want <label>:<port>"},
		{"local:", "", "want a port from 1024 to 49151"},
		{"local:http", "", "want a port"},
		{"local:-1", "", "want a port"},
		{"local:+5001", "", "want a port"},
		{"local: 5001", "", "want a port"},
		{"local:5000=x", "", "want a port"},
		{"local:0x1388", "", "want a port"},
		{"127.0.0.1:5001", "", labels},
		{"local:2323", "", "taken by dill itself (127.0.0.1:2323)"},
		{"any:2323", "", "taken by dill itself (127.0.0.1:2323)"},
		{"local:5001\n0.0.0.0:22", `dill.listener=local:5001\n0.0.0.0:22`, "do not print"},
		{"local:5001\x1b[31m", `dill.listener=local:5001\x1b[31m`, "do not print"},
		{"local\xff:5001", `dill.listener=local\xff:5001`, "do not print"},
		{"local\u202e:5001", `dill.listener=local\u202e:5001`, "do not print"},
		{strings.Repeat("x", 10<<10) + ":5001", "dill.listener=" + strings.Repeat("x", maxShown-14-3) + "…", "10259 bytes long, at most 2048"},
	} {
		tag := "dill.listener=" + tt.value
		if tt.claim == "" {
			tt.claim = tag
		}
		r := compileAll(consul(svc("web", 1, inst(1, tag, "dill.listener=local:5000"))))
		wantServed(t, r, "127.0.0.1:5000 consul/web i1")
		wantRefused(t, r, "consul/web i1|"+tt.claim+"|"+tt.reason)
	}
}

// TestNearMissesAreNamed: a tag that was meant for dill and is none is told with
// what is wrong about it, and nothing else is said.
func TestNearMissesAreNamed(t *testing.T) {
	for _, tt := range []struct{ tags, refused string }{
		{" dill.listener=local:5001", " dill.listener=…|there are blanks around dill.listener"},
		{"dill.listener =local:5001", "dill.listener =…|there are blanks around dill.listener"},
		{"Dill.Listener=local:5001", "Dill.Listener=…|tags are in lower case; want dill.listener"},
		{"dill.listener=local:5001,dill.weight=3", "dill.listener=local:5001,dill.weight=3|several in one tag; want a tag for each listener"},
		{"dill.listener=local:5001, any:5002", "dill.listener=local:5001, any:5002|several in one tag; want a tag for each listener"},
		{"dill,dill.listener=local:5001", "dill,dill.listener=…|several tags in one; want each as a tag of its own"},
		{"dill.listener=tcp://local:5001", "dill.listener=***|a URL; want <label>:<port>"},
		{"dill.listener=::1:8001", "dill.listener=::1:8001|an address where a label is wanted; allowed: any, any6, lan, local, other, six"},
		{"dill.listener=[::1]:8001", "dill.listener=[::1]:8001|an address where a label is wanted"},
		{"dill.listner=local:5001", "dill.listener|no such tag, so no port is asked for; want dill.listener=<label>:<port>"},
		{"", "dill.listener|no such tag, so no port is asked for; want dill.listener=<label>:<port>"},
		{"dillinger", "dill.listener|no such tag"},
	} {
		var tags []string
		if tt.tags != "" {
			tags = []string{tt.tags}
		}
		r := compileAll(consul(svc("good", 1, inst(1, claim5000)), svc("web", 1, inst(1, tags...))))
		wantServed(t, r, "127.0.0.1:5000 consul/good i1")
		want := []string{"consul/web i1|" + tt.refused}
		if tt.tags == "dill.listner=local:5001" {
			want = append(want, "consul/web i1|dill.listner=…|unknown tag")
		}
		wantRefused(t, r, want...)
	}
}

// TestNearMissOfTagDill: it is told as what it is.
func TestNearMissOfTagDill(t *testing.T) {
	bare := func(tags ...string) source.Instance {
		return with(inst(1), func(i *source.Instance) { i.Tags = tags })
	}
	for _, tt := range []struct {
		tags []string
		want string
	}{
		{[]string{"Dill", claim5000}, "Dill|tags are in lower case; want dill"},
		{[]string{" dill", claim5000}, " dill|there are blanks around dill"},
		{[]string{claim5000}, `dill.listener|the instance lacks the tag "dill"`},
	} {
		r := compileAll(consul(svc("web", 1, bare(tt.tags...))))
		wantServed(t, r)
		wantRefused(t, r, "consul/web i1|"+tt.want)
	}
	wantRefused(t, compileAll(consul(svc("web", 1, bare("dillinger")))))
}

// TestNearMissOfAClosedOption: protection that was asked for by a tag that does
// not count is protection that was asked for.
func TestNearMissOfAClosedOption(t *testing.T) {
	for _, tag := range []string{" dill.allow=10.0.0.0/8", "Dill.Allow=10.0.0.0/8", "dill.Proxy_Protocol=v1", "dill.proxy =socks5://10.0.0.1"} {
		r := compileAll(consul(svc("web", 1, inst(1, claim5000, tag), inst(2, claim5000))))
		wantServed(t, r, "127.0.0.1:5000 consul/web i2")
		if len(r.Refused) != 1 || !strings.HasSuffix(r.Refused[0].Reason, "; the instance is not served without it") {
			t.Errorf("%q: refused %+v", tag, r.Refused)
		}
	}
}

func TestNoLabelIsAllowed(t *testing.T) {
	opt := config()
	opt.Allowed = nil
	r := Compile(opt, Input{Snapshots: []source.Snapshot{consul(svc("web", 1, inst(1, "dill.listener=local:5000")))}})
	wantServed(t, r)
	wantRefused(t, r, "consul/web i1|dill.listener=local:5000|none is allowed")
}

// TestLabelsAreOpaque: whatever the configuration calls an address, up to the last
// colon.
func TestLabelsAreOpaque(t *testing.T) {
	opt := config()
	for _, label := range []string{"my.label", "two words", "a:b", "a,b", "größe", "a=b"} {
		opt.Allowed = map[string]netip.Addr{label: netip.MustParseAddr("127.0.0.1")}
		for _, spelled := range []string{label, strings.ToUpper(label)} {
			r := Compile(opt, Input{Snapshots: []source.Snapshot{consul(svc("web", 1, inst(1, "dill.listener="+spelled+":5000")))}})
			wantServed(t, r, "127.0.0.1:5000 consul/web i1")
			wantRefused(t, r)
		}
	}
}

// TestOnlyConfiguredLabels: a configured map replaces the default.
func TestOnlyConfiguredLabels(t *testing.T) {
	opt := config()
	delete(opt.Allowed, "any")
	r := Compile(opt, Input{Snapshots: []source.Snapshot{consul(svc("web", 1, inst(1, "dill.listener=any:5000")))}})
	wantServed(t, r)
}

func TestGoodClaims(t *testing.T) {
	r := compileAll(consul(svc("web", 1, inst(1,
		"v1.2", "dill.listener=LOCAL:5000", "dill.listener=local:5000", "dill.listener=other:5000",
		"dill.listener=any:1024", "dill.listener=any:49151", "dill.listener=any6:5000", "dill.listener=six:6000"))))
	wantServed(t, r, "0.0.0.0:1024 consul/web i1", "0.0.0.0:49151 consul/web i1", "127.0.0.1:5000 consul/web i1",
		"[::]:5000 consul/web i1", "[::1]:6000 consul/web i1")
	wantRefused(t, r)
}

func TestTagDillIsRequired(t *testing.T) {
	off := inst(1, "dill.listener=local:5000")
	off.Tags = off.Tags[1:]
	silent := inst(2)
	silent.Tags = []string{"http"}
	r := compileAll(consul(svc("web", 1, off, silent, inst(3, "dill.listener=local:5001"))))
	wantServed(t, r, "127.0.0.1:5001 consul/web i3")
	wantRefused(t, r, `consul/web i1|dill.listener|lacks the tag "dill"`)
}

func TestInstancesStandBehindTheirOwnClaims(t *testing.T) {
	r := compileAll(consul(svc("web", 1,
		inst(1, "dill.listener=local:5000"), inst(2, "dill.listener=local:5001"),
		inst(3, "dill.listener=local:5000", "dill.listener=local:5001"))))
	wantServed(t, r, "127.0.0.1:5000 consul/web i1,i3", "127.0.0.1:5001 consul/web i2,i3")
}

func TestReasonsAreSaidOnce(t *testing.T) {
	r := compileAll(consul(svc("web", 1, inst(1, "dill.listener=any:80"), inst(2, "dill.listener=any:80"))))
	wantRefused(t, r, "consul/web|dill.listener=any:80|below")
	r = compileAll(consul(svc("web", 1, inst(1, "dill.listener=any:80"), inst(2, "dill.listener=any:80"), inst(3, "dill.listener=any:8080"))))
	wantRefused(t, r, "consul/web i1|dill.listener=any:80|below", "consul/web i2|dill.listener=any:80|below")
}

func TestRefusalsAreCapped(t *testing.T) {
	var all []source.Instance
	for i := range 100 {
		all = append(all, inst(i, "dill.listener=any:"+strings.Repeat("1", i)))
	}
	r := compileAll(consul(svc("web", 1, all...)))
	if n := len(r.Refused); n != maxRefusals {
		t.Fatalf("%d refusals, want %d", n, maxRefusals)
	}
	if last := r.Refused[maxRefusals-1]; last.Reason != "67 more of the kind" {
		t.Errorf("the last is %+v", last)
	}
}

// TestManyTagsCostNothing: an instance may ask for as many ports as its service
// may have, whatever else it is tagged with.
func TestManyTagsCostNothing(t *testing.T) {
	var tags []string
	for i := range 1000 {
		tags = append(tags, fmt.Sprint("dill.listener=local:", 5000+i), fmt.Sprint("dill.unknown", i, "=x"), "other")
	}
	r := compileAll(consul(svc("web", 1, inst(1, tags...))))
	if n := len(r.Listeners); n != 1000 {
		t.Errorf("%d listeners", n)
	}
	if last := r.Refused[len(r.Refused)-1]; last.Reason != "96 more of the kind" {
		t.Errorf("the last refusal is %+v", last)
	}
	// A protection counts wherever it stands.
	for _, bad := range []string{"dill.allow=everybody", "dill.proxy=x", "dill.proxy_protocol=v9"} {
		wantServed(t, compileAll(consul(svc("web", 1, inst(1, append(tags, bad)...)))))
	}
	for _, l := range compileAll(consul(svc("web", 1, inst(1, append(tags, "dill.allow=10.0.0.0/8")...)))).Listeners {
		if len(l.Allow) != 1 {
			t.Fatalf("%v admits everybody", l.Addr)
		}
	}
}

// TestFaultsAreCapped: of an instance with thousands of mistakes only so many
// are kept, the same in any order.
func TestFaultsAreCapped(t *testing.T) {
	tags := []string{"dill"}
	for i := range 1000 {
		tags = append(tags, fmt.Sprint("dill.unknown", i), fmt.Sprint("dill.listener=nowhere:", 5000+i))
	}
	faults := new(Memo).request(tags, nil).faults
	slices.Reverse(tags)
	if other := new(Memo).request(tags, nil).faults; !slices.Equal(faults, other) {
		t.Error("the order of the tags matters")
	}
	if last := faults[len(faults)-1]; len(faults) != maxFaults || last.reason != "1873 more tags with mistakes" {
		t.Errorf("%d faults, the last %+v", len(faults), last)
	}
}

// TestManyInstancesDoNotCrowdOutThoseThatServe: the limit is on backends.
func TestManyInstancesDoNotCrowdOutThoseThatServe(t *testing.T) {
	var all []source.Instance
	for i := range route.MaxBackends + 100 {
		in := health(inst(1, claim5000), source.Critical)
		in.ID, in.Port = fmt.Sprintf("i%05d", i), 1+i
		if i >= route.MaxBackends {
			in.Health = source.Passing
		}
		all = append(all, in)
	}
	r := compileAll(consul(svc("web", 1, all...)))
	if n := len(only(t, r).Backends); n != 100 {
		t.Errorf("%d backends of the 100 that pass", n)
	}
	wantRefused(t, r)
	for i := range all {
		all[i].Health = source.Passing
	}
	r = compileAll(consul(svc("web", 1, all...)))
	if n := len(only(t, r).Backends); n != route.MaxBackends {
		t.Errorf("%d backends", n)
	}
	wantRefused(t, r, "consul/web|"+claim5000+"|4196 addresses, the first 4096 are served")
}
