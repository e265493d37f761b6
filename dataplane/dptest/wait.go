package dptest

import (
	"testing"
	"time"
)

// Patience is how long a peer waits for its counterpart, and [Eventually] for
// its condition, before the test fails: far more than a loaded machine needs.
const Patience = 20 * time.Second

// Eventually polls cond, from every millisecond to every 20, until it is true.
// It fails the test when that takes longer than [Patience]; what says what was
// awaited, for the message.
func Eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	Within(t, Patience, what, cond)
}

// Within is [Eventually] with a limit of the test's own, for conditions that
// have to come true in a given time.
func Within(t testing.TB, limit time.Duration, what string, cond func() bool) {
	t.Helper()
	if !Poll(limit, cond) {
		t.Fatalf("still not after %v: %s", limit, what)
	}
}

// Poll reports whether cond came true within limit.
func Poll(limit time.Duration, cond func() bool) bool {
	deadline := time.Now().Add(limit)
	pause := time.Millisecond
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for !cond() {
		if time.Now().After(deadline) {
			return false
		}
		<-timer.C
		pause = min(2*pause, 20*time.Millisecond)
		timer.Reset(pause)
	}
	return true
}

// Steady checks that cond stays true for all of d. It is for what must NOT
// happen, where there is nothing to wait for.
func Steady(t testing.TB, d time.Duration, what string, cond func() bool) {
	t.Helper()
	if Poll(d, func() bool { return !cond() }) {
		t.Fatalf("no longer: %s", what)
	}
}

// Event is something that happens once, for one script to wait for another.
type Event struct{ done chan struct{} }

// NewEvent returns an event that has not happened.
func NewEvent() *Event { return &Event{done: make(chan struct{})} }

// Fire makes the event happen. It must be called at most once.
func (e *Event) Fire() { close(e.done) }

// Wait blocks until the event has happened, at most [Patience]; it reports
// whether it did.
func (e *Event) Wait() bool {
	timer := time.NewTimer(Patience)
	defer timer.Stop()
	select {
	case <-e.done:
		return true
	case <-timer.C:
		return false
	}
}

// Done is closed when the event has happened, for use in a select.
func (e *Event) Done() <-chan struct{} { return e.done }
