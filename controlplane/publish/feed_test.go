package publish

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"dill/controlplane/source"
)

func TestMerge(t *testing.T) {
	for _, c := range []struct{ name, have, in, keep, want string }{
		{"nothing", "", "", "", ""},
		{"all new", "", "a:1,2 b:1", "", "a:1,2 b:1"},
		{"all gone", "a:1 b:1,2", "", "", ""},
		{"all kept", "a:1 b:1,2", "", "a1 b1 b2", "a:1 b:1,2"},
		{"one kept of a service that is gone", "a:1,2,3", "", "a2", "a:2"},
		{"one kept beside new ones", "a:1,3", "a:2,4", "a3", "a:2,3,4"},
		{"in wins", "a:1 c:1", "a:1 b:1 c:1", "a1 c1", "a:1 b:1 c:1"},
		{"interleaved", "a:1 c:1 e:1", "b:1 d:1", "a1 e1", "a:1 b:1 d:1 e:1"},
	} {
		keep := func(service, id string) bool { return strings.Contains(c.keep, service+id) }
		have, in := parse(c.have), parse(c.in)
		if got := format(merge(have, in, keep)); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		if format(have) != c.have || format(in) != c.in {
			t.Errorf("%s: merge changed its arguments", c.name)
		}
	}
}

// parse reads "a:1,2 b:1": services and their instances.
func parse(text string) []source.Service {
	var out []source.Service
	for field := range strings.FieldsSeq(text) {
		name, ids, _ := strings.Cut(field, ":")
		s := source.Service{Name: name}
		for id := range strings.SplitSeq(ids, ",") {
			s.Instances = append(s.Instances, source.Instance{ID: id})
		}
		out = append(out, s)
	}
	return out
}

func format(services []source.Service) string {
	var out []string
	for _, s := range services {
		var ids []string
		for _, i := range s.Instances {
			ids = append(ids, i.ID)
		}
		out = append(out, s.Name+":"+strings.Join(ids, ","))
	}
	return strings.Join(out, " ")
}

func TestSuspectRemovalWaitsAndHappensOnlyIfStillTrue(t *testing.T) {
	within(t, func(w *world) {
		w.tell("consul", svc("api", 5001, "n1"), svc("web", 5000, "n1", "n2"))
		w.wait(time.Hour)
		// The index went back, and the answer is empty.
		w.send(source.Snapshot{Source: "consul", Synced: true, Suspect: true})
		w.wait(10 * time.Second)
		w.serves("waiting", "5000=n1,n2", "5001=n1")
		if s := w.Status().Sources[0]; len(s.Settling) != 3 {
			t.Errorf("%d instances settle, want 3", len(s.Settling))
		}
		// One of the two is back; the source has calmed down, but the other's
		// removal still has to wait its time.
		w.tell("consul", svc("web", 5000, "n1"))
		w.wait(19 * time.Second)
		w.serves("still waiting", "5000=n1,n2", "5001=n1")
		w.wait(2 * time.Second)
		w.serves("settled", "5000=n1")
		w.wait(time.Minute)
		w.tell("consul")
		w.serves("an ordinary removal again")
	})
}

func TestRemovalAfterAnOutageWaits(t *testing.T) {
	within(t, func(w *world) {
		web := svc("web", 5000, "n1")
		w.tell("consul", svc("api", 5001, "n1"), web)
		w.wait(time.Minute)
		w.send(source.Snapshot{Source: "consul", Synced: true, Err: errors.New("connection refused"), Services: []source.Service{web}})
		w.wait(time.Hour)
		w.serves("down", "5000=n1", "5001=n1")
		// It is back, as an empty one, and fills up again within moments.
		w.tell("consul")
		w.wait(5 * time.Second)
		w.tell("consul", web)
		w.wait(24 * time.Second)
		w.serves("shortly after", "5000=n1", "5001=n1")
		w.wait(2 * time.Second)
		w.serves("settled", "5000=n1")

		w.wait(time.Minute)
		w.tell("consul")
		w.serves("long after, a removal is a removal")
	})
}

// A source that was down when dill started has lost nothing: what leaves after
// its first answer leaves at once.
func TestNothingKnownNothingDoubted(t *testing.T) {
	within(t, func(w *world) {
		w.send(source.Snapshot{Source: "consul", Err: errors.New("connection refused")})
		w.wait(time.Minute)
		w.tell("consul", svc("api", 5001, "n1"), svc("web", 5000, "n1"))
		w.wait(time.Second)
		w.tell("consul", svc("api", 5001, "n1"))
		w.serves("the other was deregistered", "5001=n1")
	})
}

// A file that was broken for a moment and is whole again was edited: what is
// not in it any more shall close.
func TestMendedFileIsTakenAsItIs(t *testing.T) {
	within(t, func(w *world) {
		w.tell("file", svc("api", 5001, "n1"), svc("web", 5000, "n1"))
		w.wait(time.Second)
		w.send(source.Snapshot{Source: "file", Synced: true, Err: errors.New("line 3"), Services: []source.Service{svc("api", 5001, "n1"), svc("web", 5000, "n1")}})
		w.wait(time.Second)
		w.tell("file", svc("web", 5000, "n1"))
		w.serves("at once", "5000=n1")
	})
}

func TestOutageWhileSettlingStartsAnew(t *testing.T) {
	within(t, func(w *world) {
		w.tell("consul", svc("web", 5000, "n1"))
		w.wait(time.Minute)
		w.send(source.Snapshot{Source: "consul", Synced: true, Suspect: true})
		w.wait(20 * time.Second)
		w.send(source.Snapshot{Source: "consul", Synced: true, Err: errors.New("timeout")})
		w.wait(time.Hour)
		w.serves("unreachable when it was due", "5000=n1")
		w.tell("consul")
		w.wait(29 * time.Second)
		w.serves("waits again", "5000=n1")
		w.wait(2 * time.Second)
		w.serves("settled")
	})
}

// Snapshots that follow each other quickly are read as one; what made the
// first doubtful counts nevertheless.
func TestOvertakenSuspicionCounts(t *testing.T) {
	for name, first := range map[string]source.Snapshot{
		"suspect": {Source: "consul", Synced: true, Suspect: true},
		"error":   {Source: "consul", Synced: true, Err: errors.New("reset")},
	} {
		t.Run(name, func(t *testing.T) {
			within(t, func(w *world) {
				w.tell("consul", svc("web", 5000, "n1"))
				w.wait(time.Minute)
				w.Sink(first)
				w.tell("consul")
				w.wait(29 * time.Second)
				w.serves("waiting", "5000=n1")
				w.wait(2 * time.Second)
				w.serves("settled")
			})
		})
	}
}

// An instance that is kept never speaks for the one that is registered at its
// address now, nor for its port: their indexes may be of two histories.
func TestKeptInstanceDoesNotOutrankALiveOne(t *testing.T) {
	within(t, func(w *world) {
		ghost := svc("web", 5000, "n1")
		ghost.CreateIndex, ghost.Instances[0].CreateIndex = 500, 500
		w.tell("consul", ghost)
		w.wait(time.Minute)
		// The agent is back, empty; web registers anew, wants its clients'
		// addresses, and has another ID.
		live := svc("web", 5000, "m1")
		live.CreateIndex, live.Instances[0].CreateIndex = 20, 20
		live.Instances[0].Tags = append(live.Instances[0].Tags, "dill.proxy_protocol=v1", "dill.strategy=random")
		w.send(source.Snapshot{Source: "consul", Synced: true, Suspect: true, Services: []source.Service{live}})
		w.wait(time.Second)
		w.serves("the ghost settles", "5000=m1")
		l := w.Status().Table.Listeners[0]
		if l.Backends[0].ProxyProtocol != 1 || l.Strategy.String() != "random" {
			t.Errorf("proxy protocol %v, strategy %v: they are the ghost's", l.Backends[0].ProxyProtocol, l.Strategy)
		}
		for _, r := range w.Status().Table.Refused {
			if r.Instance == "m1" || strings.Contains(r.Reason, "n1, registered last") {
				t.Errorf("refused %+v", r)
			}
		}
	})
}

func BenchmarkMerge(b *testing.B) {
	var have []source.Service
	for i := range 2000 {
		s := source.Service{Name: fmt.Sprintf("s%04d", i)}
		for j := range 10 {
			s.Instances = append(s.Instances, source.Instance{ID: fmt.Sprintf("n%d", j)})
		}
		have = append(have, s)
	}
	b.ReportAllocs()
	for b.Loop() {
		merge(have, have, func(string, string) bool { return true })
	}
}
