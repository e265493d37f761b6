package compile

import (
	"fmt"
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

func TestNoLabelIsAllowed(t *testing.T) {
	opt := config()
	opt.Allowed = nil
	r := Compile(opt, Input{Snapshots: []source.Snapshot{consul(svc("web", 1, inst(1, "dill.listener=local:5000")))}})
	wantServed(t, r)
	wantRefused(t, r, "consul/web i1|dill.listener=local:5000|none is allowed")
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
	r = compileAll(consul(svc("web", 1, inst(1, "dill.listener=any:80"), inst(2, "dill.listener=any:80"), inst(3))))
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
	faults := new(Memo).request(tags).faults
	slices.Reverse(tags)
	if other := new(Memo).request(tags).faults; !slices.Equal(faults, other) {
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
