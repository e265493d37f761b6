package publish

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"dill/controlplane/source"
	"dill/controlplane/state"
)

var errUnreadable = errors.New("consul answers 500")

// partly is a synced snapshot in which these services cannot be read.
func partly(stale []string, services ...source.Service) source.Snapshot {
	s := source.Snapshot{Source: "consul", Synced: true, Services: services}
	for _, name := range stale {
		s.Stale = append(s.Stale, source.Stale{Service: name, Err: errUnreadable})
	}
	return s
}

// replaced has another Source, of this scope, take the place of consul's.
func (w *world) replaced(scope string) {
	next := w.settings()
	w.consul = new(confirmer)
	next.Sources["consul"] = Origin{Confirmer: w.consul, Scope: scope}
	w.Configure(next)
	w.wait(time.Millisecond)
}

// The last good state of a service outlives the Source that read it: it goes
// when the next one has read it, or proven that it is gone.
func TestWhatIsKnownOutlivesItsReader(t *testing.T) {
	within(t, func(w *world) {
		w.tell("consul", svc("api", 5001, "n1"), svc("db", 5002, "n1"), svc("web", 5000, "n1", "n2"))
		w.wait(time.Hour)
		w.replaced("")
		w.send(source.Snapshot{Source: "consul", Services: []source.Service{svc("db", 5002, "n1")}})
		w.serves("partly read", "5000=n1,n2", "5001=n1", "5002=n1")
		// api cannot be read, of web one instance is hidden.
		w.send(partly([]string{"api", "web"}, svc("db", 5002, "n1"), svc("web", 5000, "n2")))
		w.wait(time.Hour)
		w.serves("an hour later", "5000=n1,n2", "5001=n1", "5002=n1")
		if n := w.history.count(`msg="service kept as it was last known" source=consul service=api since=`); n != 1 {
			t.Errorf("told %d times, want once", n)
		}
		s := w.Status().Sources[0]
		if len(s.Stale) != 2 || s.Stale[0].Service != "api" || time.Since(s.Stale[0].Since) > time.Hour+time.Minute || time.Since(s.Stale[0].Since) < time.Hour {
			t.Errorf("stale %+v", s.Stale)
		}
		// Others go on.
		w.send(partly([]string{"api", "web"}, svc("web", 5000, "n2")))
		w.serves("db is gone", "5000=n1,n2", "5001=n1")
		// A good answer counts at once, and so does proven absence.
		w.wait(time.Second)
		w.tell("consul", svc("web", 5000, "n2"))
		w.serves("all was read", "5000=n2")
		if s := w.Status().Sources[0]; len(s.Stale) != 0 {
			t.Errorf("stale %+v", s.Stale)
		}
	})
}

// What the first reading of another Source lacks settles, as after a restart.
func TestFirstReadingOfAnotherSourceSettles(t *testing.T) {
	within(t, func(w *world) {
		w.tell("consul", svc("api", 5001, "n1"), svc("web", 5000, "n1"))
		w.wait(time.Minute)
		w.replaced("")
		w.tell("consul", svc("web", 5000, "n1"))
		w.wait(29 * time.Second)
		w.serves("settling", "5000=n1", "5001=n1")
		w.wait(2 * time.Second)
		w.serves("settled", "5000=n1")
	})
}

// Another Source in the midst of settling takes nothing from the time that
// removals wait.
func TestAnotherSourceShortensNoSettling(t *testing.T) {
	within(t, func(w *world) {
		w.tell("consul", svc("api", 5001, "n1"), svc("web", 5000, "n1"))
		w.wait(time.Minute)
		w.send(source.Snapshot{Source: "consul", Synced: true, Suspect: true, Services: []source.Service{svc("api", 5001, "n1"), svc("web", 5000, "n1")}})
		w.wait(25 * time.Second)
		w.tell("consul", svc("api", 5001, "n1")) // settles until 55 s
		w.wait(15 * time.Second)
		w.replaced("")
		w.send(source.Snapshot{Source: "consul", Services: []source.Service{svc("api", 5001, "n1")}})
		w.wait(time.Second)
		w.tell("consul", svc("api", 5001, "n1"))
		w.wait(14 * time.Second)
		w.serves("after 55 s", "5000=n1", "5001=n1")
		w.wait(20 * time.Second)
		w.serves("settled", "5001=n1")
	})
}

// Of another scope nothing is inherited: the old goes after the first full
// reading, through guard and settle, whatever could not be read of the new.
func TestNothingIsInheritedFromAnotherScope(t *testing.T) {
	within(t, func(w *world) {
		w.tell("consul", append(many(4, ""), svc("same", 6000, "n1"))...)
		w.wait(time.Minute)
		before := append(ports(4), "6000=n1")
		w.serves("before", before...)
		if got := w.Known("consul", ""); len(got) != 5 {
			t.Errorf("%d services are known, want 5", len(got))
		}
		w.replaced("dc2//")
		for _, scope := range []string{"", "dc2//"} {
			if got := w.Known("consul", scope); len(got) != 0 {
				t.Errorf("of %q %v is known", scope, got)
			}
		}
		w.send(source.Snapshot{Source: "consul", Err: errors.New("refused")})
		w.wait(time.Hour)
		w.serves("not read", before...)
		w.consul.says(svc("same", 6000, "n9"))
		w.send(partly([]string{"s01"}, svc("same", 6000, "n9")))
		w.wait(29 * time.Second)
		w.serves("settling", append(ports(4), "6000=n1,n9")...)
		w.wait(10 * time.Second)
		w.serves("settled and confirmed", "6000=n9")
		if got := w.Known("consul", "dc2//"); len(got) != 1 || w.consul.count() != 1 {
			t.Errorf("known are %v, confirmed %d times", got, w.consul.count())
		}
		// From now on it is the new scope's services that are inherited.
		w.replaced("dc2//")
		w.send(partly([]string{"same"}))
		w.wait(time.Hour)
		w.serves("unreadable", "6000=n9")
	})
}

// What is of a scope is inherited when that comes back before another one was
// read, also in the midst of the first reading.
func TestScopeThatComesBackInherits(t *testing.T) {
	for title, first := range map[string]source.Snapshot{
		"read":        partly(nil, svc("api", 5001, "n1"), svc("web", 5000, "n1")),
		"partly read": {Source: "consul", Services: []source.Service{svc("api", 5001, "n1"), svc("web", 5000, "n1")}},
	} {
		t.Run(title, func(t *testing.T) {
			within(t, func(w *world) {
				w.replaced("dc1//")
				w.send(first)
				w.replaced("dc2//")
				w.replaced("dc3//")
				w.replaced("dc1//")
				w.send(partly([]string{"api"}, svc("web", 5000, "n1")))
				w.wait(time.Hour)
				w.serves("api cannot be read", "5000=n1", "5001=n1")
				w.tell("consul", svc("web", 5000, "n1"))
				w.wait(time.Minute)
				w.serves("api is gone", "5000=n1")
			})
		})
	}
}

// What is left of another scope is inherited neither from a first reading that was
// not complete, nor from a state file that was written before the present one was
// read.
func TestLeftoversOfAnotherScopeAreNotInherited(t *testing.T) {
	var saved state.State
	within(t, func(w *world) {
		w.replaced("dc1//")
		w.send(source.Snapshot{Source: "consul", Services: []source.Service{svc("api", 5001, "n1")}})
		w.replaced("dc2//")
		w.send(partly([]string{"api"}, svc("web", 5000, "n1")))
		w.wait(time.Hour)
		w.serves("api of dc2 was never read", "5000=n1")
	})
	within(t, func(w *world) {
		w.replaced("dc1//")
		w.tell("consul", svc("api", 5001, "n1"))
		w.wait(time.Minute)
		w.replaced("dc2//")
		w.stop()
		<-w.ran
		saved = w.saved[len(w.saved)-1]
	})
	within(t, func(w *world) {
		w.serves("restored", "5001=n1")
		w.send(partly([]string{"api"}, svc("web", 5000, "n1")))
		w.wait(time.Hour)
		w.serves("api of dc2 was never read", "5000=n1")
	}, func(c *Config) {
		c.Restored = saved
		c.Settings.Sources["consul"] = Origin{Confirmer: c.Settings.Sources["consul"].Confirmer, Scope: "dc2//"}
	})
}

// A restart with the state file inherits as a reload does, and only within its
// scope; a file of before scopes were told is believed.
func TestRestoredServicesAreInherited(t *testing.T) {
	for name, tt := range map[string]struct {
		was  string
		want []string
	}{"same": {"dc1//", []string{"5000=n1", "5001=n1"}}, "another": {"dc2//", []string{"5000=n1"}}, "not told": {"", []string{"5000=n1", "5001=n1"}}} {
		t.Run(name, func(t *testing.T) {
			within(t, func(w *world) {
				since := w.Status().Sources[0].Since
				w.serves("at once", "5000=n1", "5001=n1")
				if got := w.Known("consul", "dc1//"); (len(got) == 2) != (len(tt.want) == 2) {
					t.Errorf("known are %v", got)
				}
				w.send(source.Snapshot{Source: "consul", Services: []source.Service{svc("web", 5000, "n1")}})
				w.send(partly([]string{"api"}, svc("web", 5000, "n1")))
				w.wait(time.Minute)
				w.serves("a minute later", tt.want...)
				if s := w.Status().Sources[0]; len(tt.want) == 2 && (len(s.Stale) != 1 || !s.Stale[0].Since.Equal(since)) {
					t.Errorf("stale %+v, want since %v", s.Stale, since)
				}
			}, func(c *Config) {
				at := time.Now().Add(-time.Hour)
				c.Restored = state.State{Sources: []state.Source{{
					Name: "consul", Scope: tt.was, Since: at, Services: []source.Service{svc("api", 5001, "n1"), svc("web", 5000, "n1")},
				}}}
				c.Settings.Sources["consul"] = Origin{Confirmer: c.Settings.Sources["consul"].Confirmer, Scope: "dc1//"}
			})
		})
	}
}

// How old a stale service is survives restarts.
func TestAgeOfAStaleServiceIsSaved(t *testing.T) {
	var saved state.State
	var since time.Time
	within(t, func(w *world) {
		since = time.Now()
		w.tell("consul", svc("api", 5001, "n1"), svc("web", 5000, "n1"))
		w.wait(time.Hour)
		s := partly([]string{"api"}, svc("api", 5001, "n1"), svc("web", 5000, "n1"))
		s.Stale[0].Since = since
		w.send(s)
		w.wait(time.Second)
		saved = w.saved[len(w.saved)-1]
	})
	if got := saved.Sources[0].Stale["api"]; !got.Equal(since) {
		t.Fatalf("saved is %v, want %v", got, since)
	}
	within(t, func(w *world) {
		w.send(partly([]string{"api"}, svc("web", 5000, "n1")))
		w.wait(time.Minute)
		w.serves("kept", "5000=n1", "5001=n1")
		if s := w.Status().Sources[0].Stale; len(s) != 1 || !s[0].Since.Equal(since) {
			t.Errorf("stale %+v, want since %v", s, since)
		}
	}, func(c *Config) { c.Restored = saved })
}

// MaxStale bounds how long anything is served as it last was.
func TestMaxStale(t *testing.T) {
	limit := func(c *Config) {
		c.Settings.Sources["consul"] = Origin{Confirmer: c.Settings.Sources["consul"].Confirmer, MaxStale: time.Hour}
	}
	t.Run("one service", func(t *testing.T) {
		within(t, func(w *world) {
			w.tell("consul", svc("api", 5001, "n1"), svc("web", 5000, "n1"))
			s := partly([]string{"api"}, svc("api", 5001, "n1"), svc("web", 5000, "n1"))
			s.Stale[0].Since = time.Now()
			w.send(s)
			w.wait(time.Hour - time.Second)
			w.serves("before", "5000=n1", "5001=n1")
			w.wait(2 * time.Second)
			w.serves("after", "5000=n1")
			if n := w.history.count("what is known is too old to be served"); n != 1 || w.Status().Sources[0].Expired != 1 {
				t.Errorf("told %d times, status %+v", n, w.Status().Sources[0])
			}
			w.tell("consul", svc("api", 5001, "n1"), svc("web", 5000, "n1"))
			w.serves("read again", "5000=n1", "5001=n1")
		}, limit)
	})
	t.Run("the source", func(t *testing.T) {
		within(t, func(w *world) {
			w.tell("consul", many(6, "")...)
			w.wait(time.Minute)
			w.send(source.Snapshot{Source: "consul", Synced: true, Err: errUnreadable, StaleSince: time.Now(), Services: many(6, "")})
			w.wait(time.Hour - time.Second)
			w.serves("before", ports(6)...)
			w.wait(2 * time.Second)
			w.serves("after: no guard holds what nobody can confirm")
		}, limit)
	})
	t.Run("restored", func(t *testing.T) {
		within(t, func(w *world) {
			w.serves("too old")
			if got := w.Known("consul", ""); len(got) != 0 {
				t.Errorf("known are %v", got)
			}
			w.tell("consul", svc("web", 5000, "n1"))
			w.serves("read", "5000=n1")
		}, restored(2*time.Hour), limit)
	})
}

// What is too old is not inherited either, even before it was evaluated.
func TestExpiredIsNotInherited(t *testing.T) {
	cfg := Config{Plane: new(plane), Names: new(names), Settings: (&world{consul: new(confirmer)}).settings()}
	restored(2 * time.Hour)(&cfg)
	for _, limit := range []time.Duration{0, time.Hour, 3 * time.Hour} {
		o := cfg.Settings.Sources["consul"]
		o.MaxStale = limit
		cfg.Settings.Sources["consul"] = o
		want := 3
		if limit == time.Hour {
			want = 0
		}
		if got := New(cfg, slog.New(slog.DiscardHandler)).Known("consul", ""); len(got) != want {
			t.Errorf("within %v: %d services are known, want %d", limit, len(got), want)
		}
	}
}

// Where age counts, the file does not look older than what is served: a crash
// does not save.
func TestQuietStateIsSavedAgainWhereAgeCounts(t *testing.T) {
	for limit, most := range map[time.Duration]time.Duration{0: 24 * time.Hour, time.Hour: 15 * time.Minute} {
		within(t, func(w *world) {
			w.tell("consul", svc("web", 5000, "n1"))
			w.wait(24 * time.Hour)
			if age := time.Since(w.saved[len(w.saved)-1].Sources[0].Since); age > most || limit == 0 && len(w.saved) != 1 {
				t.Errorf("within %v: saved %d times, last %v ago, want %v", limit, len(w.saved), age, most)
			}
		}, func(c *Config) {
			c.Settings.Sources["consul"] = Origin{Confirmer: c.Settings.Sources["consul"].Confirmer, MaxStale: limit}
		})
	}
}

// A stale service is not believed to be as critical as it last was.
func TestStaleServiceLingersOn(t *testing.T) {
	within(t, func(w *world) {
		w.tell("consul", svc("api", 5001, "n1"), svc("web", 5000, "n1"))
		w.wait(time.Minute)
		w.tell("consul", svc("api", 5001, "n1"), svc("web", 5000, "n1!"))
		w.send(partly([]string{"web"}, svc("api", 5001, "n1"), svc("web", 5000, "n1!")))
		w.wait(time.Hour)
		w.serves("unreadable", "5000=n1", "5001=n1")
		w.tell("consul", svc("api", 5001, "n1"), svc("web", 5000, "n1!"))
		w.wait(time.Minute)
		w.serves("still critical", "5001=n1")
	})
}

// A consistent read that could not read one service confirms the removal of the
// others.
func TestUnreadableServiceStopsNoConfirmation(t *testing.T) {
	within(t, func(w *world) {
		w.tell("consul", many(6, "")...)
		w.wait(time.Minute)
		w.consul.mu.Lock()
		w.consul.answer = func() (source.Snapshot, error) { return partly([]string{"s05"}), nil }
		w.consul.mu.Unlock()
		w.send(partly(nil, many(1, "")...))
		w.wait(time.Second)
		w.serves("s05 is doubtful", "5000=n0", "5005=n5")
		w.consul.says()
		w.wait(time.Minute)
		w.serves("confirmed", "5000=n0")
	})
}
