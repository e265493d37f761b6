package route

import (
	"syscall"
	"time"
)

// Passive ejection, the states of one backend:
//
//	     after failures in a row,
//	     less than half are out             its time is up, Pick hands it
//	in ──────────────────────────▶ out      out once
//	▲                              │ ▲ ────────────────────────▶ trial
//	│ any connect that succeeds    │ │    failed: twice as long    │
//	└──────────────────────────────┘ └─────────────────────────────┘
//
// A backend that is out is still tried when nothing else is left. Such a try
// can bring it back but not prolong its ejection. Neither can an attempt from
// before an arrow: what fails late, as a connect that times out does, tells of
// the state that it began in. A success is news whenever it began.
const (
	// ejectBase and ejectCap bound an ejection: 1 s, 2 s, 4 s … 60 s. Consul
	// itself needs about 10 s to notice, so a short first one costs little.
	ejectBase = time.Second
	ejectCap  = time.Minute

	// trialTimeout is when a trial whose outcome was never reported no longer
	// keeps others from trying. It only has to exceed usual connect timeouts.
	trialTimeout = 30 * time.Second
)

// ConnectOK reports that a connection to b succeeded. It returns true if that
// ended an ejection.
func (l *Listener) ConnectOK(b *Backend) (readmitted bool) {
	s := b.State
	if s.failures.Load() != 0 {
		s.failures.Store(0)
	}
	if s.out.Load() == 0 {
		return false
	}
	return s.admit()
}

// ConnectFailed reports that the last backend of tried, b, refused, was
// unreachable or timed out, which cause says, at the monotonic time now in
// nanoseconds. After that
// many failures in a row it is ejected, unless half of l's backends would then
// be more than out; after ≤ 0 never ejects. When ejected is true, b was ejected
// just now, for the first time or after a failed trial, and until is when it
// gets its next trial.
func (l *Listener) ConnectFailed(b *Backend, tried *Tried, cause syscall.Errno, now int64, after int) (ejected bool, until int64) {
	s, a := b.State, tried.last
	s.Failed.Add(1)
	if s.epoch.Load() != a.epoch {
		return false, 0
	}
	s.cause.Store(uint32(cause))
	if s.failures.Load() == 0 {
		s.since.Store(now)
	}
	n := s.failures.Add(1)
	if out := s.out.Load(); out != 0 {
		if !a.trial || !s.turn(a.epoch) {
			return false, 0
		}
		until = now + int64(ejection(s.level.Add(1)))
		// A success elsewhere may have readmitted b since: that stands.
		return s.out.CompareAndSwap(out, until), until
	}
	if after <= 0 || int64(n) < int64(after) || !l.State.ejecting.CompareAndSwap(false, true) {
		return false, 0
	}
	defer l.State.ejecting.Store(false)
	if 2*(l.out()+1) > len(l.Backends) || !s.turn(a.epoch) {
		return false, 0
	}
	until = now + int64(ejectBase)
	s.level.Store(0)
	s.out.Store(until)
	return true, until
}

// ConnectAborted reports that a connection to b, the last backend of tried, was
// given up for a reason that says nothing about b: the client left, or this
// machine ran out of ports. A trial passes to the next connection.
func (l *Listener) ConnectAborted(b *Backend, tried *Tried, now int64) {
	s, a := b.State, tried.last
	if out := s.out.Load(); out != 0 && a.trial && s.turn(a.epoch) {
		s.out.CompareAndSwap(out, now)
	}
}

// Ejection is a backend's ejection as people see it.
type Ejection struct {
	Until    int64 // monotonic ns: its next trial; 0 = not ejected
	Trial    bool  // a trial is under way
	Failures int   // failed connects in a row, also when not ejected
}

// Ejection returns the present state, its fields read one after the other.
func (s *BackendState) Ejection() Ejection {
	until := s.out.Load()
	return Ejection{
		Until:    until,
		Trial:    until != 0 && s.trial.Load() == s.epoch.Load(),
		Failures: int(s.failures.Load()),
	}
}

// Failure is failed connects in a row as people see them.
type Failure struct {
	Count int           // 0 = the last connect succeeded, or there was none
	Since int64         // monotonic ns: the first of them
	Cause syscall.Errno // of the last
}

// Reason words Cause. What dill itself prevents has no errno of its own.
func (f Failure) Reason() string {
	if f.Cause == syscall.ELOOP {
		return "the connection would come back to dill"
	}
	return f.Cause.Error()
}

// Failure returns the present state, its fields read one after the other.
func (s *BackendState) Failure() Failure {
	return Failure{
		Count: int(s.failures.Load()),
		Since: s.since.Load(),
		Cause: syscall.Errno(s.cause.Load()),
	}
}

// open reports whether the backend may be chosen at now: it is in rotation, or
// due for a trial.
func (s *BackendState) open(now int64) bool {
	out := s.out.Load()
	return out == 0 || out <= now
}

// claim reports whether the chosen backend may be used, and as what. Of the
// connections that find it due for a trial, one gets true.
func (s *BackendState) claim(now int64) (attempt, bool) {
	epoch := s.epoch.Load()
	out := s.out.Load()
	if out == 0 {
		return attempt{epoch: epoch}, true
	}
	if out > now || !s.out.CompareAndSwap(out, now+int64(trialTimeout)) {
		return attempt{}, false
	}
	epoch = s.epoch.Add(1)
	s.trial.Store(epoch)
	return attempt{epoch: epoch, trial: true}, true
}

// turn ends the epoch, once: the caller that gets true has changed the state.
func (s *BackendState) turn(epoch uint32) bool { return s.epoch.CompareAndSwap(epoch, epoch+1) }

// admit puts the backend back into rotation.
func (s *BackendState) admit() bool {
	s.epoch.Add(1)
	s.failures.Store(0)
	s.level.Store(0)
	return s.out.Swap(0) != 0
}

// out is how many of l's backends are ejected.
func (l *Listener) out() int {
	n := 0
	for _, b := range l.Backends {
		if b.State.out.Load() != 0 {
			n++
		}
	}
	return n
}

// readmit puts the backends that are due first back into rotation until no
// more than half are out: the others may have left with the last table.
func (l *Listener) readmit() {
	for l.out()*2 > len(l.Backends) {
		var first *BackendState
		for _, b := range l.Backends {
			if out := b.State.out.Load(); out != 0 && (first == nil || out < first.out.Load()) {
				first = b.State
			}
		}
		if first == nil {
			return
		}
		first.admit()
	}
}

// ejection is how long the level-th ejection in a row lasts, from 0.
func ejection(level uint32) time.Duration {
	return min(ejectBase<<min(level, 16), ejectCap)
}
