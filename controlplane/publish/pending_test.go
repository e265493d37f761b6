package publish

import (
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"dill/controlplane/resolve"
	"dill/controlplane/source"
	"dill/controlplane/state"
)

// named registers the instances of a service by these host names, in order.
func named(s source.Service, hosts ...string) source.Service {
	for i, host := range hosts {
		s.Instances[i].Host = host
	}
	return s
}

var at5000 = netip.MustParseAddrPort("127.0.0.1:5000")

// A host name that was not looked up yet is no proof that there is no address:
// what is open stays open until the answer comes, and reaches nothing that is
// not registered any more.
func TestOpenPortWaitsForAName(t *testing.T) {
	throughProxy := func(s source.Service) source.Service {
		s.Instances[0].Tags = append(s.Instances[0].Tags, "dill.proxy=socks5://new.example:1080")
		return s
	}
	for name, tt := range map[string]struct {
		first, then   source.Service
		waits, served []string
	}{
		"registered by name":        {svc("web", 5000, "n1"), named(svc("web", 5000, "n1"), "new.example"), nil, []string{"10.0.0.9:9001"}},
		"by another name":           {named(svc("web", 5000, "n1"), "old.example"), named(svc("web", 5000, "n1"), "new.example"), nil, []string{"10.0.0.9:9001"}},
		"replaced":                  {svc("web", 5000, "n1"), named(svc("web", 5000, "n2"), "new.example"), nil, []string{"10.0.0.9:9002"}},
		"through a proxy by name":   {svc("web", 5000, "n1"), throughProxy(svc("web", 5000, "n1")), nil, []string{"10.0.0.1:9001"}},
		"another one is left":       {svc("web", 5000, "n1", "n2"), named(svc("web", 5000, "n1", "n2"), "new.example"), []string{"10.0.0.1:9002"}, []string{"10.0.0.1:9002", "10.0.0.9:9001"}},
		"one that passed is left":   {svc("web", 5000, "n1", "n2"), named(svc("web", 5000, "n1", "n2!"), "new.example"), []string{"10.0.0.1:9002"}, []string{"10.0.0.9:9001"}},
		"critical":                  {svc("web", 5000, "n1"), named(svc("web", 5000, "n1!"), "new.example"), nil, []string{"10.0.0.9:9001"}},
		"critical, and one more":    {svc("web", 5000, "n1", "n2!"), named(svc("web", 5000, "n1!", "n2!"), "new.example"), nil, []string{"10.0.0.9:9001"}},
		"passing beside a critical": {svc("web", 5000, "n1"), named(svc("web", 5000, "n2", "n3!"), "new.example"), nil, []string{"10.0.0.9:9002"}},
		"replaced by a critical":    {svc("web", 5000, "n1"), named(svc("web", 5000, "n2!"), "new.example"), nil, []string{"10.0.0.9:9002"}},
	} {
		t.Run(name, func(t *testing.T) {
			within(t, func(w *world) {
				w.names.set("old.example", "10.0.0.8")
				w.tell("consul", tt.first)
				w.wait(time.Second)
				w.tell("consul", tt.then)
				for range 2 {
					l := w.plane.last().Lookup(at5000)
					if l == nil || !l.Waiting {
						t.Fatalf("listener %+v", l)
					}
					w.reaches("being looked up", 5000, tt.waits...)
					w.wait(time.Second)
				}
				if hosts := w.Status().Waiting[at5000].Hosts; !slices.Equal(hosts, []string{"new.example"}) {
					t.Errorf("waits for %q", hosts)
				}
				if owner := w.saved[len(w.saved)-1].Owners[at5000]; owner != "consul/web" {
					t.Errorf("saved owner %q", owner)
				}
				w.names.set("new.example", "10.0.0.9")
				w.NamesChanged()
				w.wait(0)
				w.reaches("looked up", 5000, tt.served...)
				if l := w.plane.last().Lookup(at5000); l == nil || l.Waiting || len(w.Status().Waiting) != 0 {
					t.Errorf("listener %+v, waiting %v", l, w.Status().Waiting)
				}
			})
		})
	}
}

// A critical instance that is registered by name keeps its port for as long as
// any other, neither longer nor shorter.
func TestLingerGoesOnWhileANameIsLookedUp(t *testing.T) {
	within(t, func(w *world) {
		w.tell("consul", svc("web", 5000, "n1"))
		w.wait(time.Second)
		w.tell("consul", svc("web", 5000, "n1!"))
		w.wait(10 * time.Second)
		w.tell("consul", named(svc("web", 5000, "n1!"), "new.example"))
		w.serves("being looked up", "5000=")
		if _, lingers := w.Status().Lingering[at5000]; !lingers {
			t.Error("it does not linger")
		}
		w.wait(5 * time.Second)
		w.names.set("new.example", "10.0.0.9")
		w.NamesChanged()
		w.wait(14 * time.Second)
		w.reaches("looked up", 5000, "10.0.0.9:9001")
		w.wait(2 * time.Second)
		w.serves("lingered")
	})
}

// The error is an answer, and the resolver has to give one in time.
func TestWaitingForANameEnds(t *testing.T) {
	for name, linger := range map[string]time.Duration{"linger": DefaultLinger, "no linger": 0} {
		limit := max(linger, resolve.Timeout)
		within(t, func(w *world) {
			s := w.settings()
			s.Linger = linger
			w.Configure(s)
			w.tell("consul", svc("web", 5000, "n1"), svc("xyz", 5001, "n1"))
			w.wait(time.Second)
			w.tell("consul", named(svc("web", 5000, "n1"), "new.example"), named(svc("xyz", 5001, "n1"), "bad.example"))
			w.wait(time.Second)
			w.serves(name+": being looked up", "5000=", "5001=")
			w.names.fail("bad.example")
			w.NamesChanged()
			w.wait(limit - 2*time.Second)
			w.serves(name+": no such host", "5000=")
			w.wait(2 * time.Second)
			w.serves(name + ": never answered")
			w.tell("consul", named(svc("web", 5000, "n1!"), "new.example"))
			w.serves(name + ": nothing that is closed waits")
		})
	}
}

// The last one that waits for a name may go, and so may its service.
func TestWaitingIsForWhatIsRegistered(t *testing.T) {
	within(t, func(w *world) {
		w.tell("consul", svc("web", 5000, "n1"))
		w.wait(time.Second)
		w.tell("consul", named(svc("web", 5000, "n1"), "new.example"))
		w.wait(time.Second)
		w.serves("being looked up", "5000=")
		w.tell("consul", named(svc("web", 5000, "n1~"), "new.example"))
		w.serves("being drained")
		w.wait(time.Second)
		w.tell("consul", named(svc("api", 5000, "n1"), "new.example"))
		w.serves("another service, which never had the port")
	})
}

// What lingers and waits is in the state file, and a restart waits on.
func TestWaitingOutlivesARestart(t *testing.T) {
	var saved state.State
	within(t, func(w *world) {
		w.tell("consul", svc("web", 5000, "n1"))
		w.wait(time.Second)
		w.tell("consul", named(svc("web", 5000, "n1!"), "new.example"))
		w.wait(time.Second)
		w.serves("being looked up", "5000=")
		saved = w.saved[len(w.saved)-1]
	})
	if want := map[netip.AddrPort][]string{at5000: {"n1"}}; !maps.EqualFunc(saved.Lingering, want, slices.Equal) {
		t.Fatalf("saved %v, want %v", saved.Lingering, want)
	}
	within(t, func(w *world) {
		w.serves("after the restart", "5000=")
		w.wait(time.Hour)
		w.serves("the name is never answered")
		w.names.set("new.example", "10.0.0.9")
		w.NamesChanged()
		w.wait(0)
		w.reaches("looked up at last, and Consul still down", 5000, "10.0.0.9:9001")
	}, func(c *Config) { c.Restored = saved })
}
