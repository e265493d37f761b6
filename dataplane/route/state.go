package route

import (
	"sync/atomic"
	"unsafe"
)

// cacheLine is the unit that two CPUs contend for, on amd64 and most arm64.
const cacheLine = 64

// ListenerState is what a listener remembers across table generations. All of
// it is atomic; every loop uses the same one. Its fields share one cache line
// on purpose: an accept touches them together.
type ListenerState struct {
	Active atomic.Int64  // sessions now
	Total  atomic.Uint64 // sessions ever
	cursor atomic.Uint64 // round robin position, and the rotation of ties

	// ejecting is a lock that is tried, never waited for: it keeps two loops
	// from both ejecting the last backend that may go.
	ejecting atomic.Bool

	_ [cacheLine - 4*8]byte
}

// Admit counts a new session, unless l.MaxConnections are there already: then
// it returns false and counts nothing. Every true needs one State.Release.
func (l *Listener) Admit() bool {
	if n := l.State.Active.Add(1); l.MaxConnections > 0 && n > int64(l.MaxConnections) {
		l.State.Active.Add(-1)
		return false
	}
	l.State.Total.Add(1)
	return true
}

// Release counts a session as ended.
func (s *ListenerState) Release() { s.Active.Add(-1) }

// Take counts a session that from has admitted as one of s from now on. They
// differ only if the listener was gone for a table or more.
func (s *ListenerState) Take(from *ListenerState) {
	if s != from {
		from.Active.Add(-1)
		s.Active.Add(1)
	}
}

// BackendState is what a backend behind one listener remembers across table
// generations. All of it is atomic; every loop uses the same one. It fills a
// cache line, so that loops busy with different backends do not disturb each
// other.
type BackendState struct {
	Active atomic.Int64  // connections now, those still connecting included
	Total  atomic.Uint64 // connection attempts ever
	Failed atomic.Uint64 // failed attempts ever

	// out is 0 while the backend is in rotation. Otherwise it is ejected: not
	// before this moment (monotonic ns) may one connection try it again. A
	// trial under way has moved it ahead by trialTimeout.
	out      atomic.Int64
	failures atomic.Uint32 // in a row
	level    atomic.Uint32 // ejections in a row, sets the next one's length

	// epoch counts the arrows of the diagram in eject.go: an attempt that began
	// before the last one is no news. trial is the epoch in which a trial is
	// under way, when it is the present one.
	epoch atomic.Uint32
	trial atomic.Uint32

	// What the failures in a row were: when the first was, monotonic ns, and the
	// errno of the last.
	since atomic.Int64
	cause atomic.Uint32

	_ [cacheLine - 5*8 - 5*4]byte
}

// Both states are exactly one cache line.
var (
	_ [cacheLine - unsafe.Sizeof(ListenerState{})]struct{}
	_ [unsafe.Sizeof(ListenerState{}) - cacheLine]struct{}
	_ [cacheLine - unsafe.Sizeof(BackendState{})]struct{}
	_ [unsafe.Sizeof(BackendState{}) - cacheLine]struct{}
)

// Acquire counts a connection to the backend. Call it as soon as Pick returned
// it, so that the other loops see the load.
func (s *BackendState) Acquire() {
	s.Active.Add(1)
	s.Total.Add(1)
}

// Release undoes one Acquire when the connection is over.
func (s *BackendState) Release() { s.Active.Add(-1) }
