package dataplane_test

import (
	"testing"
	"time"

	"dill/dataplane"
	. "dill/dataplane/dptest"
)

// TestEjection: a backend that fails N connects in a row is left out, comes
// back with a single trial, and stays when that succeeds.
func TestEjection(t *testing.T) {
	r := start(t, setup{cfg: dataplane.Config{EjectAfter: 2, Loops: 1}, backends: 2, serve: names})
	failed, ejected := since("connect_failed"), since("ejections")
	r.backends[1].Stop()
	begun := time.Now()
	for range 20 {
		if got := r.ask(t); got != "A" {
			t.Fatalf("%q answered", got)
		}
	}
	if time.Since(begun) < time.Second && (failed() != 2 || ejected() != 1) {
		t.Errorf("20 connections tried the dead backend %d times and ejected it %d times, want 2 and 1", failed(), ejected())
	}
	Eventually(t, "the ejection is logged", func() bool { return r.log.contains(r.backends[1].Addr().String()) })

	// Still dead when the second is over: one trial, and out again.
	Eventually(t, "a trial is made", func() bool {
		if got := r.ask(t); got != "A" {
			t.Fatalf("%q answered", got)
		}
		return failed() >= 3
	})
	tried := time.Now()
	took(t, "the first ban", time.Since(begun), 900*time.Millisecond, 5*time.Second)
	for range 10 {
		r.ask(t)
	}
	if time.Since(tried) < 1500*time.Millisecond && failed() != 3 { // the ban is 2 s now
		t.Errorf("%d attempts failed, want a single trial after the ban", failed())
	}

	r.backends[1].Start(t)
	Eventually(t, "the backend is back", func() bool { return r.ask(t) == "B" })
	counts := map[string]int{}
	for range 10 {
		counts[r.ask(t)]++
	}
	if counts["B"] != 5 {
		t.Errorf("after its return 10 connections went %v, want 5 each", counts)
	}
}

// TestEjectionIsInARow: a success in between starts the count anew.
func TestEjectionIsInARow(t *testing.T) {
	r := start(t, setup{cfg: dataplane.Config{EjectAfter: 3, Loops: 1}, backends: 2, serve: names})
	failed, ejected := since("connect_failed"), since("ejections")
	for range 4 {
		r.backends[1].Stop()
		before := failed()
		for failed() < before+2 {
			r.ask(t)
		}
		r.backends[1].Start(t)
		Eventually(t, "B answers", func() bool { return r.ask(t) == "B" })
	}
	if ejected() != 0 {
		t.Errorf("%d ejections although never 3 failures came in a row", ejected())
	}
}

// TestNeverMoreThanHalfEjected: of four backends of which three are dead, two
// at most are left out.
func TestNeverMoreThanHalfEjected(t *testing.T) {
	r := start(t, setup{
		cfg: dataplane.Config{EjectAfter: 1, Loops: 1, ConnectTries: 4}, serve: names, dead: several(t, 3, FreeAddr),
	})
	ejected, failed := since("ejections"), since("connect_failed")
	begun := time.Now()
	for range 12 {
		if got := r.ask(t); got != "A" {
			t.Fatalf("%q answered", got)
		}
	}
	if time.Since(begun) < 900*time.Millisecond && ejected() != 2 {
		t.Errorf("%d backends ejected, want 2", ejected())
	}
	if failed() < 5 {
		t.Errorf("only %d attempts failed: the third dead backend is not tried any more", failed())
	}
}

// TestOnlyBackendIsNeverEjected: a listener's single backend is tried again by
// every client, and serves the moment it is up.
func TestOnlyBackendIsNeverEjected(t *testing.T) {
	r := start(t, setup{cfg: dataplane.Config{EjectAfter: 1}, serve: names})
	r.backends[0].Stop()
	for range 5 {
		r.rejected(t)
	}
	r.backends[0].Start(t)
	if got := r.ask(t); got != "A" {
		t.Errorf("%q answered", got)
	}
}
