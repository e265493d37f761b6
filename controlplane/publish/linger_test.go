package publish

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"dill/controlplane/source"
	"dill/controlplane/state"
)

func TestAllCriticalLingers(t *testing.T) {
	within(t, func(w *world) {
		w.tell("consul", svc("api", 5001, "n9"), svc("web", 5000, "n1", "n2"))
		w.wait(time.Minute)
		w.tell("consul", svc("api", 5001, "n9"), svc("web", 5000, "n1!", "n2"))
		w.serves("one critical", "5000=n2", "5001=n9")
		w.wait(time.Minute)
		w.tell("consul", svc("api", 5001, "n9"), svc("web", 5000, "n1!", "n2!"))
		w.wait(29 * time.Second)
		w.serves("on the last passing set", "5000=n2", "5001=n9")
		if n := len(w.Status().Lingering); n != 1 {
			t.Errorf("%d listeners linger", n)
		}
		w.wait(2 * time.Second)
		w.serves("lingered", "5001=n9")
		if n := len(w.Status().Lingering); n != 0 {
			t.Errorf("%d listeners linger after it closed", n)
		}
		w.wait(time.Minute)
		w.tell("consul", svc("api", 5001, "n9"), svc("web", 5000, "n1", "n2!"))
		w.serves("back", "5000=n1", "5001=n9")
	})
}

func TestLingeringEndsWhenAnInstanceReturns(t *testing.T) {
	within(t, func(w *world) {
		for range 3 { // each time the full wait
			w.tell("consul", svc("web", 5000, "n1", "n2"))
			w.wait(time.Second)
			w.tell("consul", svc("web", 5000, "n1!", "n2!"))
			w.wait(25 * time.Second)
			w.serves("lingers", "5000=n1,n2")
			w.tell("consul", svc("web", 5000, "n1!", "n2"))
			w.wait(25 * time.Second)
			w.serves("one is back", "5000=n2")
		}
	})
}

func TestDeregisteredWhileLingeringClosesAtOnce(t *testing.T) {
	within(t, func(w *world) {
		w.tell("consul", svc("web", 5000, "n1", "n2"))
		w.wait(time.Second)
		w.tell("consul", svc("web", 5000, "n1!", "n2!"))
		w.wait(time.Second)
		w.tell("consul", svc("web", 5000, "n2!"))
		w.serves("one gone", "5000=n2")
		w.wait(time.Second)
		w.tell("consul")
		w.serves("both gone")
	})
}

func TestMaintenanceNeverLingers(t *testing.T) {
	within(t, func(w *world) {
		w.tell("consul", svc("api", 5001, "n9"), svc("web", 5000, "n1", "n2"))
		w.wait(time.Second)
		w.tell("consul", svc("api", 5001, "n9~"), svc("web", 5000, "n1~", "n2!"))
		w.serves("drained at once, the critical one lingers", "5000=n2")
		w.wait(time.Second)
		w.tell("consul", svc("api", 5001, "n9~"), svc("web", 5000, "n1~", "n2~"))
		w.serves("all drained")
	})
}

func TestMassLingerIsSummedUp(t *testing.T) {
	within(t, func(w *world) {
		w.tell("consul", many(40, "")...)
		w.wait(time.Second)
		w.tell("consul", many(40, "!")...)
		w.wait(time.Second)
		w.tell("consul", many(40, "")...)
		if w.history.count("listeners linger") != 1 || w.history.count("listeners no longer linger") != 1 || w.history.count("listener ") != 0 {
			t.Errorf("log:\n%s", w.history.text.String())
		}
	})
}

// The whole node goes into maintenance: an operator's word, not an accident.
func TestMassMaintenanceIsNotHeld(t *testing.T) {
	within(t, func(w *world) {
		w.tell("consul", many(8, "")...)
		w.wait(time.Second)
		w.tell("consul", many(8, "~")...)
		w.serves("at once")
		if n := w.consul.count(); n != 0 {
			t.Errorf("confirmed %d times", n)
		}
	})
}

// Every lingering that the log tells of has an end there, with its reason.
func TestLingerHasAnEndInTheLog(t *testing.T) {
	for name, tt := range map[string]struct {
		how    func(w *world)
		reason string
	}{
		"passing":      {func(w *world) { w.tell("consul", svc("web", 5000, "n1", "n2!")) }, "an instance is served again"},
		"replaced":     {func(w *world) { w.tell("consul", svc("web", 5000, "n3")) }, "an instance is served again"},
		"time is up":   {func(w *world) { w.wait(DefaultLinger) }, "closed: no instance passed in time"},
		"deregistered": {func(w *world) { w.tell("consul") }, "closed: no instance claims it any more"},
		"moved away":   {func(w *world) { w.tell("consul", svc("web", 5001, "n1!", "n2!")) }, "closed: no instance claims it any more"},
		"drained":      {func(w *world) { w.tell("consul", svc("web", 5000, "n1~", "n2~")) }, "closed: no instance is left to try"},
		"taken over":   {func(w *world) { w.tell("consul", svc("xyz", 5000, "n1")) }, "another service has the port"},
	} {
		t.Run(name, func(t *testing.T) {
			within(t, func(w *world) {
				w.tell("consul", svc("web", 5000, "n1", "n2"))
				w.wait(time.Second)
				w.tell("consul", svc("web", 5000, "n1!", "n2!"))
				w.wait(time.Second)
				tt.how(w)
				w.wait(time.Minute)
				line := `listener no longer lingers" listener=127.0.0.1:5000 owner=consul/web reason="` + tt.reason + `"`
				if w.history.count(line) != 1 || w.history.count("no longer lingers") != 1 || w.history.count("listener lingers") != 1 {
					t.Errorf("want once: %s\nlog:\n%s", line, w.history.text.String())
				}
			})
		})
	}
}

func TestNeverServedDoesNotLinger(t *testing.T) {
	within(t, func(w *world) {
		w.tell("consul", svc("web", 5000, "n1!"))
		w.wait(time.Second)
		w.serves("critical from the start")
	})
}

// An instance that is registered elsewhere while it is critical is tried there:
// somebody else may have the address that it had.
func TestLingerFollowsTheRegistration(t *testing.T) {
	move := func(w *world, how func(*source.Instance), ids ...string) {
		w.tell("consul", svc("web", 5000, "n1", "n2"))
		w.wait(time.Second)
		w.tell("consul", svc("web", 5000, "n1!", "n2!"))
		w.wait(time.Second)
		s := svc("web", 5000, ids...)
		how(&s.Instances[0])
		w.tell("consul", s)
	}
	for name, tt := range map[string]struct {
		how  func(*source.Instance)
		ids  []string
		want []string
	}{
		"address":              {func(i *source.Instance) { i.Host = "10.0.0.7" }, []string{"n1!", "n2!"}, []string{"10.0.0.1:9002", "10.0.0.7:9001"}},
		"port":                 {func(i *source.Instance) { i.Port = 1 }, []string{"n1!", "n2!"}, []string{"10.0.0.1:1", "10.0.0.1:9002"}},
		"the only one":         {func(i *source.Instance) { i.Host = "10.0.0.7" }, []string{"n1!"}, []string{"10.0.0.7:9001"}},
		"by name":              {func(i *source.Instance) { i.Host = "db.example" }, []string{"n1!"}, []string{"10.0.0.9:9001"}},
		"another ID took over": {func(i *source.Instance) { i.Port = 9001 }, []string{"n3!"}, []string{"10.0.0.1:9001"}},
	} {
		t.Run(name, func(t *testing.T) {
			within(t, func(w *world) {
				w.names.set("db.example", "10.0.0.9")
				move(w, tt.how, tt.ids...)
				w.reaches("moved", 5000, tt.want...)
				w.wait(20 * time.Second)
				w.reaches("later", 5000, tt.want...)
			})
		})
	}
}

// A name that answers differently during the linger moves its instance, too.
func TestLingerFollowsTheName(t *testing.T) {
	within(t, func(w *world) {
		w.names.set("db.example", "10.0.0.8")
		named := func(id string) source.Service {
			s := svc("web", 5000, id)
			s.Instances[0].Host = "db.example"
			return s
		}
		w.tell("consul", named("n1"))
		w.wait(time.Second)
		w.tell("consul", named("n1!"))
		w.reaches("lingers", 5000, "10.0.0.8:9001")
		w.wait(time.Second)
		w.names.set("db.example", "10.0.0.9")
		w.NamesChanged()
		w.wait(0)
		w.reaches("the name has moved", 5000, "10.0.0.9:9001")
	})
}

// A restart during the linger does not end it: its time counts anew, and as
// long as nobody says that the instances are still critical, it has no end.
func TestLingerOutlivesARestart(t *testing.T) {
	var saved state.State
	within(t, func(w *world) {
		w.tell("consul", svc("web", 5000, "n1", "n2", "n3!"), svc("xyz", 5001, "n1!"))
		w.wait(time.Second)
		w.tell("consul", svc("web", 5000, "n1!", "n2!", "n3!"), svc("xyz", 5001, "n1!"))
		w.wait(20 * time.Second)
		w.serves("lingers", "5000=n1,n2")
		saved = w.saved[len(w.saved)-1]
	})
	restart := func(c *Config) { c.Restored = saved }
	within(t, func(w *world) {
		w.serves("with Consul down", "5000=n1,n2")
		w.wait(time.Hour)
		w.serves("an hour later", "5000=n1,n2")
		if _, lingers := w.Status().Lingering[netip.MustParseAddrPort("127.0.0.1:5000")]; !lingers {
			t.Error("it does not linger")
		}
		if again := w.saved[len(w.saved)-1]; !maps.EqualFunc(again.Lingering, saved.Lingering, slices.Equal) {
			t.Errorf("saved again is %v, was %v", again.Lingering, saved.Lingering)
		}
		w.tell("consul", svc("web", 5000, "n1"), svc("xyz", 5001, "n1!"))
		w.serves("passing again", "5000=n1")
	}, restart)
	within(t, func(w *world) {
		w.tell("consul", svc("web", 5000, "n1!", "n2!", "n3!"), svc("xyz", 5001, "n1!"))
		w.wait(29 * time.Second)
		w.serves("counts anew", "5000=n1,n2")
		w.wait(2 * time.Second)
		w.serves("is over")
	}, restart)
	within(t, func(w *world) {
		w.names.set("later.example", "10.0.0.1")
		w.NamesChanged()
		w.wait(time.Second)
		w.serves("once the name is resolved", "5000=n1,n2")
	}, restart, func(c *Config) {
		for i := range 3 {
			c.Restored.Sources[0].Services[0].Instances[i].Host = "later.example"
		}
	})
}

// An instance that never passed gets nobody while one that did is registered.
func TestNeverPassedIsTriedOnlyWhenNoOtherIsLeft(t *testing.T) {
	within(t, func(w *world) {
		w.tell("consul", svc("web", 5000, "n1", "n2!"))
		w.wait(time.Second)
		w.tell("consul", svc("web", 5000, "n1!", "n2!"))
		w.serves("the one that passed last", "5000=n1")
		w.wait(time.Second)
		w.tell("consul", svc("web", 5000, "n2!"))
		w.serves("replaced altogether", "5000=n2")
		w.wait(time.Second)
		w.tell("consul", svc("web", 5000, "n1~", "n2~"))
		w.serves("being drained")
	})
}

// A deployment of a single instance: the new one is critical until its first
// check has run.
func TestReplacedByCriticalInstanceIsTried(t *testing.T) {
	within(t, func(w *world) {
		w.tell("consul", svc("web", 5000, "n1"))
		w.wait(time.Second)
		w.tell("consul", svc("web", 5000, "n2!", "n3~"))
		w.wait(29 * time.Second)
		w.serves("replaced", "5000=n2")
		w.wait(2 * time.Second)
		w.serves("lingered")
	})
}

// Who asked for a proxy must not be served without it, not even lingering.
func TestLastSetIsNotUsedBehindChangedTags(t *testing.T) {
	within(t, func(w *world) {
		w.tell("consul", svc("web", 5000, "n1"))
		w.wait(time.Second)
		s := svc("web", 5000, "n1")
		s.Instances[0].Tags = append(s.Instances[0].Tags, "dill.proxy=socks5://unknown.example:1080")
		w.tell("consul", s)
		w.serves("the proxy is not resolved", "5000=")
		w.wait(time.Second)
		w.names.set("unknown.example", "10.0.0.7")
		w.NamesChanged()
		w.wait(0)
		w.serves("through the proxy", "5000=n1")
		w.wait(time.Second)
		s = svc("web", 5000, "n1!")
		s.Instances[0].Tags = append(s.Instances[0].Tags, "dill.proxy=socks5://10.0.0.8:1080")
		w.tell("consul", s)
		w.serves("critical, and through another proxy", "5000=n1")
		if b := w.plane.last().Listeners[0].Backends[0]; b.Socks == nil || b.Socks.Addr.Addr().String() != "10.0.0.8" {
			t.Errorf("backend %+v", b)
		}
	})
}

// A port that nothing passes for is told while it is not open: from the
// registration on, and after it lingered, but not while it does.
func TestIdlePortsAreTold(t *testing.T) {
	within(t, func(w *world) {
		idle := func(when string, want ...string) {
			t.Helper()
			var got []string
			for _, l := range w.Status().Idle {
				got = append(got, fmt.Sprintf("%s %s: %s", l.Addr, l.Owner, l.Reason))
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: idle %q, want %q", when, got, want)
			}
		}
		good := svc("good", 6000, "n1")
		w.tell("consul", good, svc("web", 5000, "n1!"))
		w.serves("critical since it was registered", "6000=n1")
		idle("critical since it was registered", "127.0.0.1:5000 consul/web: no instance is passing: 1 critical")
		w.tell("consul", good, svc("web", 5000, "n1"))
		w.wait(time.Second)
		w.serves("passing", "5000=n1", "6000=n1")
		idle("passing")
		w.wait(time.Minute)
		w.tell("consul", good, svc("web", 5000, "n1!"))
		w.serves("lingering", "5000=n1", "6000=n1")
		idle("lingering")
		w.wait(time.Minute)
		w.serves("after that", "6000=n1")
		idle("after that", "127.0.0.1:5000 consul/web: no instance is passing: 1 critical")
	})
}

func TestNewOwnerDoesNotInheritTheLastSet(t *testing.T) {
	within(t, func(w *world) {
		w.tell("consul", svc("web", 5000, "n1"))
		w.wait(time.Second)
		w.tell("consul", svc("xyz", 5000, "n1!"))
		w.serves("another service's critical instance")
	})
}

// An agent that restarts reloads every check as critical, goes away, and comes
// back with them critical still.
func TestLingeringOutlastsAnOutage(t *testing.T) {
	within(t, func(w *world) {
		web, critical := svc("web", 5000, "n1"), svc("web", 5000, "n1!")
		w.tell("consul", web)
		w.wait(time.Minute)
		w.tell("consul", critical)
		w.wait(time.Second)
		w.send(source.Snapshot{Source: "consul", Synced: true, Err: errors.New("refused"), Services: []source.Service{critical}})
		w.wait(time.Hour)
		w.serves("silent", "5000=n1")
		w.tell("consul", critical)
		w.wait(29 * time.Second)
		w.serves("just back", "5000=n1")
		w.wait(2 * time.Second)
		w.serves("settled")
	})
}
