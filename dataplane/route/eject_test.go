package route

import (
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"
)

const after = 3

// fresh is an attempt at b that begins now and is not its trial.
func fresh(b *Backend) *Tried { return &Tried{last: attempt{epoch: b.State.epoch.Load()}} }

// fail reports failures of b until it is ejected or n are reported.
func fail(l *Listener, b *Backend, now int64, n int) (ejected bool, until int64) {
	for range n {
		if ejected, until = l.ConnectFailed(b, fresh(b), syscall.ECONNREFUSED, now, after); ejected {
			return ejected, until
		}
	}
	return false, 0
}

// trialOf hands out the trial of l's first backend.
func trialOf(t *testing.T, l *Listener, now int64) *Tried {
	t.Helper()
	l.State.cursor.Store(0)
	var tried Tried
	if l.Pick(now, client(0), &tried) != l.Backends[0] || !tried.last.trial {
		t.Fatal("no trial when its time came")
	}
	return &tried
}

func TestEjectionAfterFailuresInARow(t *testing.T) {
	l := listener(RoundRobin, 1, 1)
	b := l.Backends[0]
	now := int64(time.Hour)
	fail(l, b, now, after-1)
	l.ConnectOK(b)
	if ejected, _ := fail(l, b, now, after-1); ejected {
		t.Fatal("ejected although the failures were not in a row")
	}
	ejected, until := l.ConnectFailed(b, fresh(b), syscall.ECONNREFUSED, now, after)
	if !ejected || until != now+int64(time.Second) {
		t.Fatalf("ejected %v until %v", ejected, time.Duration(until-now))
	}
	for range 10 {
		if pick(l, now, client(0)) == 0 {
			t.Fatal("an ejected backend was picked")
		}
	}
	if e := b.State.Ejection(); e.Until != until || e.Trial || e.Failures != after {
		t.Errorf("shown as %+v", e)
	}
}

func TestEjectionGrowsToItsCap(t *testing.T) {
	l := listener(RoundRobin, 1, 1)
	b := l.Backends[0]
	now := int64(time.Hour)
	_, until := fail(l, b, now, after)
	for _, want := range []time.Duration{2, 4, 8, 16, 32, 60, 60} {
		now = until
		trial := trialOf(t, l, now)
		var ejected bool
		if ejected, until = l.ConnectFailed(b, trial, syscall.ECONNREFUSED, now, after); !ejected {
			t.Fatal("a failed trial did not eject again")
		}
		if got := time.Duration(until - now); got != want*time.Second {
			t.Fatalf("ejected for %v, want %v", got, want*time.Second)
		}
	}
	now = until
	l.State.cursor.Store(0)
	pick(l, now, client(0))
	if !l.ConnectOK(b) {
		t.Fatal("a good trial did not readmit")
	}
	if _, until = fail(l, b, now, after); until != now+int64(time.Second) {
		t.Error("the next ejection is not the first again")
	}
}

func TestSingleTrial(t *testing.T) {
	l := listener(RoundRobin, 1, 1)
	b := l.Backends[0]
	_, until := fail(l, b, 1, after)
	trials := 0
	var trial Tried
	for range 20 {
		var tried Tried
		if l.Pick(until, client(0), &tried) == b {
			trial = tried
			trials++
		}
	}
	if trials != 1 {
		t.Fatalf("%d trials at once", trials)
	}
	if !b.State.Ejection().Trial {
		t.Error("the trial does not show")
	}
	// Its client left: the next connection is the trial.
	l.ConnectAborted(b, &trial, until)
	l.State.cursor.Store(0)
	if pick(l, until, client(0)) != 0 {
		t.Error("an aborted trial was not passed on")
	}
	// Nothing was ever heard of it: it does not keep the backend out for good.
	l.State.cursor.Store(0)
	if pick(l, until+int64(trialTimeout), client(0)) != 0 {
		t.Error("a lost trial keeps the backend out")
	}
}

func TestLateOutcomes(t *testing.T) {
	l := listener(RoundRobin, 1, 1)
	b := l.Backends[0]
	_, until := fail(l, b, 1, after)
	if ejected, _ := fail(l, b, 2, 10); ejected || b.State.out.Load() != until {
		t.Error("a late failure prolonged the ejection")
	}
	if !l.ConnectOK(b) {
		t.Error("a late success did not readmit")
	}
	if l.ConnectOK(b) {
		t.Error("readmitted twice")
	}
}

// TestAttemptFromBeforeAnEjection: a connect that began before the ejection, a
// trial or the return of its backend and fails afterwards is no news: it does
// not pass for the trial's failure, frees no second trial, and does not count
// against a backend that has come back.
func TestAttemptFromBeforeAnEjection(t *testing.T) {
	const now = int64(time.Hour)
	l := listener(RoundRobin, 1, 1)
	b := l.Backends[0]
	early := fresh(b)
	_, until := fail(l, b, now, after)
	trial := trialOf(t, l, until)
	if ejected, _ := l.ConnectFailed(b, early, syscall.ECONNREFUSED, until, after); ejected || !b.State.Ejection().Trial {
		t.Error("an attempt from before the ejection passed for the trial")
	}
	if l.ConnectAborted(b, early, until); !b.State.Ejection().Trial {
		t.Error("one that was given up ended the trial")
	}
	ejected, next := l.ConnectFailed(b, trial, syscall.ECONNREFUSED, until, after)
	if want := until + int64(2*time.Second); !ejected || next != want {
		t.Errorf("the trial's failure: ejected %v for %v, want 2s", ejected, time.Duration(next-until))
	}

	// A trial that is heard of too late is none any more.
	lost := trialOf(t, l, next)
	present := trialOf(t, l, next+int64(trialTimeout))
	if ejected, _ := l.ConnectFailed(b, lost, syscall.ECONNREFUSED, next+int64(trialTimeout), after); ejected || !b.State.Ejection().Trial {
		t.Error("a lost trial passed for the present one")
	}

	// The present one succeeds; the old ones are still failing.
	if !l.ConnectOK(b) {
		t.Fatal("a good trial did not readmit")
	}
	for range after {
		for _, old := range []*Tried{early, trial, lost, present} {
			if ejected, _ := l.ConnectFailed(b, old, syscall.ECONNREFUSED, next, after); ejected || b.State.Ejection().Failures > 0 {
				t.Fatal("an attempt from before the return counts")
			}
		}
	}
}

func TestSingleBackendIsNeverEjected(t *testing.T) {
	l := listener(RoundRobin, 1)
	if ejected, _ := fail(l, l.Backends[0], 1, 100); ejected {
		t.Error("the only backend was ejected")
	}
}

func TestEjectionCanBeOff(t *testing.T) {
	l := listener(RoundRobin, 1, 1)
	for range 100 {
		if ejected, _ := l.ConnectFailed(l.Backends[0], fresh(l.Backends[0]), syscall.ECONNREFUSED, 1, 0); ejected {
			t.Fatal("ejected")
		}
	}
}

func TestAtMostHalfAreEjected(t *testing.T) {
	for n := 1; n <= 9; n++ {
		l := listener(RoundRobin, equal(n)...)
		for _, b := range l.Backends {
			fail(l, b, 1, 10)
		}
		if got := l.out(); got != n/2 {
			t.Errorf("%d of %d are out", got, n)
		}
	}
}

// TestHalfHoldsAcrossTables: when the healthy half leaves, ejected backends
// come back with the new table.
func TestHalfHoldsAcrossTables(t *testing.T) {
	tab := NewTable(1, []*Listener{{Addr: addrA, Backends: backends(1, 1, 1, 1)}}, nil, nil)
	l := tab.Listeners[0]
	fail(l, l.Backends[0], 5, 10)
	fail(l, l.Backends[1], 1, 10)
	tab = NewTable(2, []*Listener{{Addr: addrA, Backends: backends(1, 1)}}, nil, tab)
	l = tab.Listeners[0]
	if l.out() != 1 || l.Backends[0].State.out.Load() == 0 {
		t.Errorf("%d of 2 out; the one due first must be back", l.out())
	}
}

// TestConcurrentUse runs every operation from several goroutines while tables
// are swapped, for the race detector, and checks what must hold at any moment
// and at the end.
func TestConcurrentUse(t *testing.T) {
	for _, s := range allStrategies {
		tab := NewTable(1, []*Listener{{Addr: addrA, Strategy: s, Backends: backends(1, 2, 3, 4)}}, nil, nil)
		first := tab
		var wg sync.WaitGroup
		for g := range uint64(4) {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(g, 5))
				l := first.Lookup(addrA)
				for now := range int64(1000) {
					now *= int64(10 * time.Millisecond)
					if !l.Admit() {
						t.Error("not admitted without a limit")
						return
					}
					var tried Tried
					for {
						b := l.Pick(now, client(r.IntN(100)), &tried)
						if b == nil {
							break
						}
						b.State.Acquire()
						switch r.IntN(4) {
						case 0:
							l.ConnectOK(b)
						case 1:
							l.ConnectAborted(b, &tried, now)
						default:
							l.ConnectFailed(b, &tried, syscall.ECONNREFUSED, now, after)
						}
						b.State.Release()
						// Counting is no snapshot unless ejection stands still.
						if l.State.ejecting.CompareAndSwap(false, true) {
							if l.out() > len(l.Backends)/2 {
								t.Error("more than half are out")
							}
							l.State.ejecting.Store(false)
						}
					}
					l.State.Release()
				}
			})
		}
		for gen := range uint64(200) {
			tab = NewTable(gen+2, []*Listener{{Addr: addrA, Strategy: s, Backends: backends(1, 2, 3, 4+int(gen%2))}}, nil, tab)
		}
		wg.Wait()
		l := tab.Lookup(addrA)
		if n := l.State.Active.Load(); n != 0 {
			t.Errorf("%v: %d sessions left", s, n)
		}
		for _, b := range l.Backends {
			if n := b.State.Active.Load(); n != 0 {
				t.Errorf("%v: %d connections left", s, n)
			}
		}
	}
}
