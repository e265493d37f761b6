package publish

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"dill/controlplane/source"
)

func TestFirstChangeIsPublishedAtOnce(t *testing.T) {
	within(t, func(w *world) {
		for i := range 3 {
			w.wait(time.Minute) // a lone change, however often
			start := time.Now()
			w.tell("consul", svc("web", 5000+i, "n1"))
			w.serves("at once", fmt.Sprintf("%d=n1", 5000+i))
			if at := w.plane.times[len(w.plane.times)-1]; !at.Equal(start) {
				t.Errorf("published %v after the change", at.Sub(start))
			}
		}
	})
}

func TestBurstIsPublishedInBatches(t *testing.T) {
	within(t, func(w *world) {
		for i := range 1000 {
			w.tell("file", many(i%50+1, "")...)
			time.Sleep(time.Millisecond)
		}
		w.wait(time.Second)
		w.serves("at the end", ports(50)...)
		if n := w.plane.count(); n < 15 || n > 21 {
			t.Errorf("%d publications in a second, want about 20", n)
		}
		for i := 1; i < len(w.plane.times); i++ {
			if gap := w.plane.times[i].Sub(w.plane.times[i-1]); gap < spacing {
				t.Errorf("publication %d came %v after the one before", i, gap)
			}
			if w.plane.tables[i].Generation != w.plane.tables[i-1].Generation+1 {
				t.Errorf("generation %d follows %d", w.plane.tables[i].Generation, w.plane.tables[i-1].Generation)
			}
		}
	})
}

func TestEqualTableIsNotPublished(t *testing.T) {
	within(t, func(w *world) {
		for i := range 10 {
			s := svc("web", 5000, "n1", "n2")
			s.CreateIndex += uint64(i) // moves nothing
			w.tell("consul", s)
			w.wait(time.Second)
		}
		if n := w.plane.count(); n != 1 {
			t.Errorf("%d publications of one table", n)
		}
	})
}

func TestDeregisteredClosesAtOnce(t *testing.T) {
	within(t, func(w *world) {
		w.tell("consul", svc("api", 5001, "n1"), svc("web", 5000, "n1", "n2"))
		w.wait(time.Second)
		w.tell("consul", svc("api", 5001, "n1"), svc("web", 5000, "n2"))
		w.serves("one instance less", "5000=n2", "5001=n1")
		w.wait(time.Second)
		w.tell("consul", svc("api", 5001, "n1"))
		w.serves("the last is gone", "5001=n1")
		if w.history.count("new=0 gone=1") != 1 || w.history.count("backend removed") != 1 || w.history.count("new=2 gone=0") != 1 {
			t.Errorf("log:\n%s", w.history.text.String())
		}
	})
}

func TestUntrustedSnapshotsNeverRemove(t *testing.T) {
	down := errors.New("connection refused")
	for name, bad := range map[string]source.Snapshot{
		"unsynced":          {Source: "consul"},
		"error":             {Source: "consul", Synced: true, Err: down},
		"error, suspect":    {Source: "consul", Synced: true, Suspect: true, Err: down},
		"unsynced, suspect": {Source: "consul", Suspect: true},
	} {
		t.Run(name, func(t *testing.T) {
			within(t, func(w *world) {
				w.tell("consul", svc("api", 5001, "n1"), svc("web", 5000, "n1", "n2"))
				w.wait(time.Second)
				w.send(bad)
				w.wait(time.Hour)
				w.serves("nothing left", "5000=n1,n2", "5001=n1")

				bad.Services = []source.Service{svc("db", 5002, "n7"), svc("web", 5000, "n2!", "n3")}
				w.send(bad)
				w.wait(time.Hour)
				w.serves("what it has counts", "5000=n1,n3", "5001=n1", "5002=n7")
			})
		})
	}
}

func TestStalenessIsShownWithItsAge(t *testing.T) {
	within(t, func(w *world) {
		w.tell("consul", svc("web", 5000, "n1"))
		since := time.Now()
		w.wait(time.Minute)
		w.send(source.Snapshot{Source: "consul", Synced: true, Err: errors.New("timeout"), Services: []source.Service{svc("web", 5000, "n1")}})
		s := w.Status().Sources[0]
		if s.Name != "consul" || s.Err == nil || !s.Since.Equal(since) || s.Services != 1 {
			t.Errorf("status %+v, want stale since the last good snapshot", s)
		}
		w.tell("consul", svc("web", 5000, "n1"))
		if s := w.Status().Sources[0]; s.Err != nil || !s.Since.IsZero() || !s.Synced {
			t.Errorf("status %+v, want current", s)
		}
	})
}

func TestOwnerKeepsItsPort(t *testing.T) {
	within(t, func(w *world) {
		w.tell("consul", svc("web", 5000, "n1"))
		w.wait(time.Second)
		w.tell("file", svc("aaa", 5000, "f1"))
		w.serves("the file is first in order, but late", "5000=n1")
		if r := w.Status().Table.Refused; len(r) != 1 || r[0].Service != "file/aaa" {
			t.Errorf("refused %+v", r)
		}
		// A rolling replacement of the owner, through all critical.
		w.wait(time.Second)
		w.tell("consul", svc("web", 5000, "n1", "n2!"))
		w.wait(time.Second)
		w.tell("consul", svc("web", 5000, "n2!"))
		w.wait(time.Minute)
		w.serves("the owner has only a critical instance")
		w.tell("consul", svc("web", 5000, "n2"))
		w.serves("replaced", "5000=n2")
		w.wait(time.Second)
		w.tell("consul")
		w.serves("the owner left", "5000=f1")
	})
}

func TestAddressChangeIsPublished(t *testing.T) {
	within(t, func(w *world) {
		s := svc("web", 5000, "n1")
		s.Instances[0].Host = "db.example"
		w.tell("consul", s)
		w.serves("pending")
		if r := w.Status().Table.Refused; len(r) != 1 || w.history.count("claim refused") != 0 {
			t.Errorf("refused %+v, log:\n%s", r, w.history.text.String())
		}
		w.wait(time.Second)
		w.names.set("db.example", "10.0.0.9")
		w.NamesChanged()
		w.wait(0)
		w.serves("resolved", "5000=n1")
		if a := w.plane.last().Listeners[0].Backends[0].Addr.String(); a != "10.0.0.9:9001" {
			t.Errorf("backend %s", a)
		}
		if w.names.sweeps == 0 {
			t.Error("the resolver is never told what is unused")
		}
	})
}

func TestSettingsTakeEffect(t *testing.T) {
	within(t, func(w *world) {
		w.tell("consul", many(8, "")...)
		w.tell("file", svc("own", 6000, "f1"))
		w.wait(time.Second)
		s := w.settings()
		s.Compile.Allowed = nil
		w.Configure(s)
		w.wait(0)
		w.serves("a label that is gone closes all of its ports, deliberately")
		if w.consul.count() != 0 {
			t.Error("new settings were held for confirmation")
		}
		w.wait(time.Second)
		w.Configure(w.settings())
		w.wait(0)
		w.serves("and back", append(ports(8), "6000=f1")...)

		s = w.settings()
		delete(s.Sources, "consul")
		w.wait(time.Second)
		w.Configure(s)
		w.wait(0)
		w.serves("a source that is no longer configured", "6000=f1")
		w.tell("consul", many(8, "")...)
		w.wait(time.Second)
		w.serves("a late snapshot of it", "6000=f1")
	})
}

func TestLargeDiffIsSummedUp(t *testing.T) {
	within(t, func(w *world) {
		w.tell("consul", many(40, "")...)
		grown := many(40, "")
		for i := range grown {
			port := 5000 + i
			grown[i] = svc(grown[i].Name, port, fmt.Sprintf("n%d", i), "n99")
		}
		w.wait(time.Second)
		w.tell("consul", grown...)
		if w.history.count("backend added") != 0 || w.history.count("added=40") != 1 || w.history.count("table published") != 2 {
			t.Errorf("log:\n%s", w.history.text.String())
		}
	})
}

// A table is a wish: whether its ports are open is for the data plane to tell.
func TestPublicationDoesNotClaimThatPortsOpened(t *testing.T) {
	within(t, func(w *world) {
		w.tell("consul", svc("web", 5000, "n1"))
		w.wait(time.Second)
		w.tell("consul")
		if w.history.count("opened") != 0 || w.history.count("closed") != 0 || w.history.count("table published") != 2 {
			t.Errorf("log:\n%s", w.history.text.String())
		}
	})
}

// A source may call from anywhere, and nothing waits for anything.
func TestManySendersAtOnce(t *testing.T) {
	within(t, func(w *world) {
		var all sync.WaitGroup
		for _, from := range []string{"consul", "file", "stranger"} {
			all.Go(func() {
				for i := range 500 {
					port := 5000 + len(from)
					w.Sink(source.Snapshot{Source: from, Synced: true, Services: []source.Service{svc("x", port, fmt.Sprintf("n%d", i))}})
					w.NamesChanged()
					_ = w.Status().Table.Listeners
				}
			})
		}
		all.Wait()
		w.wait(time.Second)
		w.serves("the newest of each", "5004=n499", "5006=n499")
	})
}
