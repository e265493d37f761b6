package compile

import (
	"slices"
	"strings"
	"testing"

	"dill/controlplane/source"
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

func TestTooManyTags(t *testing.T) {
	tags := slices.Repeat([]string{"dill.listener=local:5000"}, maxTags+1)
	r := compileAll(consul(svc("web", 1, inst(1, tags...))))
	wantServed(t, r)
	wantRefused(t, r, "consul/web i1|dill.*|129 tags, at most 128 are read")
	r = compileAll(consul(svc("web", 1, inst(1, tags[1:]...))))
	wantServed(t, r, "127.0.0.1:5000 consul/web i1")
}
