package publish

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dill/controlplane/source"
	"dill/controlplane/state"
	"dill/dataplane/route"
)

// restored is the state of a former life: web owns 5000 though api asks for it.
func restored(age time.Duration) func(*Config) {
	return func(c *Config) {
		at := time.Now().Add(-age)
		c.Restored = state.State{
			Saved: at,
			Sources: []state.Source{
				{Name: "consul", Since: at, Services: []source.Service{svc("api", 5000, "n1"), svc("web", 5000, "n2"), svc("xyz", 5001, "n3")}},
				{Name: "nomad", Since: at, Services: []source.Service{svc("old", 7000, "n9")}},
			},
			Owners: map[netip.AddrPort]string{netip.MustParseAddrPort("127.0.0.1:5000"): "consul/web"},
		}
	}
}

func TestRestoredStateIsServedAtOnceAndStale(t *testing.T) {
	within(t, func(w *world) {
		w.serves("with every source silent", "5000=n2", "5001=n3")
		s := w.Status().Sources[0]
		if s.Synced || s.Err == nil || s.Err.Error() != "from state file, 1h0m0s old" || time.Since(s.Since) != time.Hour {
			t.Errorf("status %+v", s)
		}
		w.wait(24 * time.Hour)
		w.serves("a day later", "5000=n2", "5001=n3")

		// Consul comes, step by step: nothing closes before it is complete,
		// and then after settling.
		w.send(source.Snapshot{Source: "consul", Services: []source.Service{svc("api", 5000, "n1")}})
		w.wait(time.Minute)
		w.serves("partly read", "5000=n2", "5001=n3")
		w.tell("consul", svc("api", 5000, "n1"), svc("web", 5000, "n4"))
		w.wait(time.Second)
		w.serves("owners of the former life are incumbents", "5000=n2,n4", "5001=n3")
		w.wait(time.Minute)
		w.serves("settled", "5000=n4")
	}, restored(time.Hour))
}

// A dill that was restarted closes at once what is deregistered from then on; only
// what its source's first reading lacks waits, and all if the source had trouble.
func TestAfterARestartOnlyTheFirstReadingSettles(t *testing.T) {
	reading := []source.Service{svc("api", 5000, "n1"), svc("web", 5000, "n2")}
	within(t, func(w *world) {
		w.tell("consul", reading...)
		w.wait(2 * time.Second)
		w.serves("the first reading lacks xyz", "5000=n2", "5001=n3")
		w.wait(time.Minute)
		w.serves("settled", "5000=n2")
		w.tell("consul", reading[0])
		w.serves("gone at once", "5000=n1")
	}, restored(time.Hour))
	within(t, func(w *world) {
		w.tell("consul", append(reading, svc("xyz", 5001, "n3"))...)
		w.wait(2 * time.Second)
		w.tell("consul", reading...)
		w.serves("nothing was missing: gone at once", "5000=n2")
	}, restored(time.Hour))
	within(t, func(w *world) {
		w.send(source.Snapshot{Source: "consul", Err: errors.New("refused")})
		w.tell("consul", append(reading, svc("xyz", 5001, "n3"))...)
		w.wait(2 * time.Second)
		w.tell("consul", reading...)
		w.wait(time.Second)
		w.serves("it had not been there at first", "5000=n2", "5001=n3")
	}, restored(time.Hour))
}

// While a source is read for the first time its services have their ports as
// they come; who owns one is decided by the order once all are there.
func TestFirstReadingMakesNoIncumbents(t *testing.T) {
	within(t, func(w *world) {
		w.send(source.Snapshot{Source: "consul", Services: []source.Service{svc("web", 5000, "n2")}})
		w.serves("partly read", "5000=n2")
		w.tell("file", svc("own", 6000, "f1"))
		w.tell("consul", svc("api", 5000, "n1"), svc("web", 5000, "n2"))
		w.wait(time.Second)
		w.serves("by the order", "5000=n1", "6000=f1")
		w.tell("consul", svc("aaa", 5000, "n0"), svc("api", 5000, "n1"))
		w.wait(time.Second)
		w.serves("an incumbent", "5000=n1", "6000=f1")
	})
}

func TestStateIsSavedWhenItChanges(t *testing.T) {
	within(t, func(w *world) {
		w.tell("consul", svc("web", 5000, "n1"))
		w.wait(time.Second)
		w.tell("consul", svc("web", 5000, "n1"))
		w.wait(time.Second)
		if len(w.saved) != 1 {
			t.Fatalf("saved %d times for one change", len(w.saved))
		}
		s := w.saved[0]
		if len(s.Sources) != 1 || format(s.Sources[0].Services) != "web:n1" || s.Owners[netip.MustParseAddrPort("127.0.0.1:5000")] != "consul/web" {
			t.Errorf("saved %+v", s)
		}
		w.wait(time.Hour)
		end := time.Now()
		w.stop()
		<-w.ran
		if s := w.saved[len(w.saved)-1]; len(w.saved) != 2 || !s.Saved.Equal(end) || !s.Sources[0].Since.Equal(end) {
			t.Errorf("at the end: saved %d times, %+v", len(w.saved), s)
		}
	})
}

// A stale source keeps its own age in the file, whatever is written when.
func TestSavedAgeIsTheSources(t *testing.T) {
	at := time.Now()
	within(t, func(w *world) {
		at = time.Now().Add(-time.Hour)
		w.wait(time.Minute)
		w.tell("file", svc("own", 6000, "f1"))
		s := w.saved[len(w.saved)-1]
		if len(s.Sources) != 2 || s.Sources[0].Name != "consul" || !s.Sources[0].Since.Equal(at) || !s.Sources[1].Since.Equal(time.Now()) {
			t.Errorf("saved %+v", s.Sources)
		}
	}, restored(time.Hour))
}

// Stop, write, read, start: the same ports on the same backends, with the same
// owners, before any source has said a word.
func TestRestartServesTheSameTable(t *testing.T) {
	file := state.New(filepath.Join(t.TempDir(), "state"), slog.New(slog.DiscardHandler))
	var before []string
	within(t, func(w *world) {
		w.tell("consul", svc("web", 5000, "n1", "n2"), svc("xyz", 5001, "n3", "n4!"))
		w.wait(time.Second)
		w.tell("file", svc("aaa", 5000, "f1"), svc("own", 6000, "f2"))
		w.wait(time.Second)
		before = routes(w.Status().Table)
		w.stop()
		<-w.ran
		file.Save(w.saved[len(w.saved)-1])
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	file.Run(ctx)
	restored, err := file.Load()
	if err != nil {
		t.Fatal(err)
	}
	within(t, func(w *world) {
		if after := routes(w.Status().Table); len(before) != 3 || !slices.Equal(after, before) {
			t.Errorf("before %q\nafter  %q", before, after)
		}
	}, func(c *Config) { c.Restored = restored })
}

// routes writes a table down.
func routes(t *route.Table) (lines []string) {
	for _, l := range t.Listeners {
		line := []string{l.Addr.String(), l.Owner, l.Strategy.String()}
		for _, b := range l.Backends {
			line = append(line, b.Addr.String())
		}
		lines = append(lines, strings.Join(line, " "))
	}
	return lines
}

// Without anything heard, a file of an earlier life is left alone.
func TestNothingHeardSavesNothing(t *testing.T) {
	within(t, func(w *world) {
		w.wait(time.Minute)
		w.stop()
		<-w.ran
		if len(w.saved) != 0 {
			t.Errorf("saved %+v", w.saved)
		}
	})
}

func TestHostileNamesAreQuotedInLogs(t *testing.T) {
	within(t, func(w *world) {
		w.tell("consul", svc("web", 5000, "n1"))
		w.wait(time.Second)
		w.tell("consul", svc("web", 5000, "n1", "we\x1b[2Jb\nport opened2"))
		text := w.history.text.String()
		if strings.ContainsRune(text, 0x1b) || strings.Count(text, "\n") != 3 || !strings.Contains(text, "port opened2") {
			t.Errorf("log %q", text)
		}
	})
}

// The source may say that its server is not there before the first evaluation
// has seen what was restored.
func TestRestoredStateOutlivesAnEarlyError(t *testing.T) {
	cfg := Config{Plane: new(plane), Names: new(names), Settings: (&world{consul: new(confirmer)}).settings()}
	restored(time.Hour)(&cfg)
	p := New(cfg, slog.New(slog.DiscardHandler))
	p.Sink(source.Snapshot{Source: "consul", Err: errors.New("connection refused")})
	p.collect(time.Now())
	p.evaluate(t.Context(), time.Now())
	if n := len(p.Status().Table.Listeners); n != 2 {
		t.Errorf("%d listeners, want the 2 restored ones", n)
	}
}
