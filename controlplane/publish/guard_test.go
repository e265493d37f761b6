package publish

import (
	"errors"
	"testing"
	"time"

	"dill/controlplane/source"
)

func TestMassRemovalIsHeldUntilConfirmed(t *testing.T) {
	within(t, func(w *world) {
		w.consul.delay = 40 * time.Millisecond
		w.consul.says(many(2, "")...)
		w.tell("consul", many(8, "")...)
		w.wait(time.Minute)
		w.tell("consul", many(2, "")...)
		w.serves("held", ports(8)...)
		if s := w.Status().Sources[0]; len(s.Held) != 6 {
			t.Errorf("%d listeners held, want 6", len(s.Held))
		}
		w.wait(100 * time.Millisecond)
		w.serves("confirmed", ports(2)...)
		if s := w.Status().Sources[0]; len(s.Held) != 0 || w.consul.count() != 1 {
			t.Errorf("%d listeners held, %d reads", len(s.Held), w.consul.count())
		}
	})
}

func TestUnconfirmedRemovalIsNeverTaken(t *testing.T) {
	for name, answer := range map[string]func() (source.Snapshot, error){
		"no answer": func() (source.Snapshot, error) { return source.Snapshot{}, errors.New("no cluster leader") },
		"unsynced":  func() (source.Snapshot, error) { return source.Snapshot{Source: "consul"}, nil },
		"with error": func() (source.Snapshot, error) {
			return source.Snapshot{Synced: true, Err: errors.New("filtered")}, nil
		},
		"all there": func() (source.Snapshot, error) {
			return source.Snapshot{Synced: true, Services: many(8, "")}, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			within(t, func(w *world) {
				w.consul.answer = answer
				w.tell("consul", many(8, "")...)
				w.wait(time.Minute)
				w.tell("consul")
				w.wait(time.Hour)
				w.serves("held", ports(8)...)
				if n := w.consul.count(); n < 100 || n > 140 {
					t.Errorf("%d reads in an hour, want a back-off up to 30 s", n)
				}
				w.consul.says()
				w.wait(confirmMax)
				w.serves("confirmed at last")
			})
		})
	}
}

// What the consistent read lacks too is gone, the rest stays.
func TestPartlyConfirmed(t *testing.T) {
	within(t, func(w *world) {
		w.consul.says(many(5, "")...)
		w.tell("consul", many(8, "")...)
		w.wait(time.Minute)
		w.tell("consul", many(1, "")...)
		w.wait(500 * time.Millisecond)
		w.serves("only what both lack", ports(5)...)
		w.tell("consul", many(5, "")...)
		w.wait(100 * time.Millisecond)
		w.serves("and the source comes round", ports(5)...)
		if s := w.Status().Sources[0]; len(s.Held) != 0 {
			t.Errorf("%d listeners held", len(s.Held))
		}
	})
}

func TestReturnEndsTheHold(t *testing.T) {
	within(t, func(w *world) {
		w.tell("consul", many(8, "")...)
		w.wait(time.Minute)
		w.tell("consul")
		w.wait(time.Second)
		w.tell("consul", many(8, "")...)
		w.wait(time.Minute)
		asked := w.consul.count()
		w.wait(time.Hour)
		w.serves("all back", ports(8)...)
		if s := w.Status().Sources[0]; len(s.Held) != 0 || w.consul.count() != asked {
			t.Errorf("%d listeners held, %d more reads", len(s.Held), w.consul.count()-asked)
		}
	})
}

// A hold stops removals of its source and nothing else.
func TestHoldStopsNobodyElse(t *testing.T) {
	within(t, func(w *world) {
		w.tell("consul", many(8, "")...)
		w.tell("file", svc("own", 6000, "f1"))
		w.wait(time.Minute)
		w.tell("consul", svc("new", 7000, "n70"), svc("s00", 5000, "n0", "n50"))
		w.wait(time.Second)
		w.tell("file", svc("own", 6001, "f1"))
		want := append(ports(8), "6001=f1", "7000=n70")
		want[0] = "5000=n0,n50"
		w.serves("additions and the other source", want...)

		// More ports do not dilute the share of what is held.
		more := many(30, "")
		for i := range more {
			more[i] = svc(more[i].Name+"x", 8000+i, "n1")
		}
		w.tell("file", more...)
		w.wait(time.Hour)
		if n := len(w.Status().Table.Listeners); n != 39 {
			t.Errorf("%d listeners, want 9 and 30", n)
		}
	})
}

func TestFileIsTakenAsItIs(t *testing.T) {
	within(t, func(w *world) {
		w.tell("file", many(8, "")...)
		w.wait(time.Second)
		w.tell("file", many(1, "")...)
		w.serves("a deliberate edit", ports(1)...)
	})
}

func TestFewListenersAreNotGuarded(t *testing.T) {
	within(t, func(w *world) {
		w.tell("consul", many(3, "")...)
		w.wait(time.Second)
		w.tell("consul")
		w.serves("three of three")

		w.wait(time.Second)
		w.tell("consul", many(8, "")...)
		w.wait(time.Second)
		w.tell("consul", many(4, "")...)
		w.serves("half of eight", ports(4)...)
		if n := w.consul.count(); n != 0 {
			t.Errorf("confirmed %d times", n)
		}
	})
}

// A source's own share counts as well: another's many listeners do not make
// its vanishing harmless.
func TestShareOfOneSource(t *testing.T) {
	within(t, func(w *world) {
		more := many(30, "")
		for i := range more {
			more[i] = svc(more[i].Name+"x", 8000+i, "n1")
		}
		w.tell("file", more...)
		w.tell("consul", many(4, "")...)
		w.wait(time.Second)
		w.tell("consul")
		w.wait(time.Minute)
		if n := len(w.Status().Table.Listeners); n != 34 {
			t.Errorf("%d listeners, want all 34", n)
		}
	})
}

func TestMassLingerEndIsConfirmed(t *testing.T) {
	within(t, func(w *world) {
		w.tell("consul", many(8, "")...)
		w.wait(time.Minute)
		w.tell("consul", many(8, "!")...)
		w.wait(5 * time.Minute)
		w.serves("all critical, and nobody confirms it", ports(8)...)

		half := append(many(4, "!"), many(8, "")[4:]...)
		w.consul.says(half...)
		w.wait(31 * time.Second)
		w.serves("those that the read shows passing stay", ports(8)[4:]...)
		w.consul.says(many(8, "!")...)
		w.wait(31 * time.Second)
		w.serves("confirmed")
	})
}

func TestSettledMassRemovalIsConfirmedToo(t *testing.T) {
	within(t, func(w *world) {
		w.tell("consul", many(8, "")...)
		w.wait(time.Minute)
		w.send(source.Snapshot{Source: "consul", Synced: true, Suspect: true})
		w.wait(20 * time.Second)
		if n := w.consul.count(); n != 0 {
			t.Errorf("asked %d times while settling", n)
		}
		w.wait(time.Minute)
		w.serves("settled, not confirmed", ports(8)...)
		w.consul.says()
		w.wait(30 * time.Second)
		w.serves("confirmed")
	})
}

// The answer of a server that is no longer configured proves nothing.
func TestAnswerOfTheFormerServerIsIgnored(t *testing.T) {
	within(t, func(w *world) {
		w.consul.delay = time.Second
		w.consul.says()
		w.tell("consul", many(8, "")...)
		w.wait(time.Minute)
		w.tell("consul")
		s := w.settings()
		other := new(confirmer)
		s.Sources["consul"] = Origin{Confirmer: other}
		w.Configure(s)
		w.wait(time.Minute)
		w.serves("the new server does not answer", ports(8)...)
		if other.count() == 0 {
			t.Error("the new server was not asked")
		}
	})
}

func TestShutdownDoesNotWaitForConfirm(t *testing.T) {
	within(t, func(w *world) {
		w.consul.delay = time.Hour
		w.tell("consul", many(8, "")...)
		w.wait(time.Minute)
		w.tell("consul")
		start := time.Now()
		w.stop()
		<-w.ran
		if d := time.Since(start); d > 0 {
			t.Errorf("Run ended after %v", d)
		}
	})
}
