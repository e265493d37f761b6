package dataplane

import (
	"net/netip"
	"sync"
	"testing"
	"time"

	"dill/dataplane/internal/sys"
	"dill/dataplane/route"
)

// Stall blocks every loop for d, as a bug would.
func (e *Engine) Stall(d time.Duration) {
	for _, l := range e.loops {
		l.post(func() error {
			l.onEvent = func(*session) {
				l.onEvent = nil
				for start := time.Now(); time.Since(start) < d; {
				}
			}
			return nil
		})
	}
}

// PanicNext makes the next session event on any loop panic.
func (e *Engine) PanicNext() {
	for _, l := range e.loops {
		l.post(func() error {
			l.onEvent = func(*session) {
				l.onEvent = nil
				panic("injected by a test")
			}
			return nil
		})
	}
}

// PanicInTask has a task on every loop that panics at its first session, and
// one that panics outside of any.
func (e *Engine) PanicInTask() {
	for _, l := range e.loops {
		first := true
		l.post(func() error {
			l.each(func(*session) {
				if first {
					first = false
					panic("injected by a test")
				}
			})
			panic("injected by a test, too")
		})
	}
}

// Age makes every session d older, and d longer silent.
func (e *Engine) Age(d time.Duration) {
	for _, l := range e.loops {
		l.post(func() error {
			l.each(func(s *session) {
				s.born -= ms(d)
				s.moved -= ms(d)
				l.armRelay(s)
			})
			return nil
		})
	}
}

// Held is a loop that does nothing until it is let go.
type Held struct {
	loop *loop
	free chan struct{}
	seen chan uint64
}

// Hold stops the engine's only loop, once it gets to that.
func (e *Engine) Hold() *Held {
	h := &Held{e.loops[0], make(chan struct{}), make(chan uint64, 1)}
	holding := make(chan struct{})
	h.loop.post(func() error {
		close(holding)
		<-h.free
		before := h.loop.stats.Splices.Load()
		h.loop.onEvent = func(s *session) {
			if !s.flow[client].splicing && !s.flow[upstream].splicing {
				h.loop.onEvent = nil
				h.seen <- h.loop.stats.Splices.Load() - before
			}
		}
		return nil
	})
	<-holding
	return h
}

// Release lets the loop go, and returns how many splices it made before it
// saw an event of a session that does not splice.
func (h *Held) Release() uint64 {
	close(h.free)
	return <-h.seen
}

// Go lets the loop go without waiting for anything.
func (h *Held) Go() { close(h.free) }

// FreeWindows gives every send buffer back to the kernel's tuning. The next
// splice decides anew.
func (e *Engine) FreeWindows() {
	for _, l := range e.loops {
		l.post(func() error {
			l.each(func(s *session) {
				for i := range s.flow {
					if f := &s.flow[i]; f.near != unjudged {
						f.near = unjudged
						sys.TuneSendBuffer(s.side[1-i].fd)
					}
				}
			})
			return nil
		})
	}
}

// MayNap is mayNap.
func (e *Engine) MayNap() bool { return e.mayNap() }

// LeadsBack asks the first loop, n times, whether addr leads back to dill, and
// returns what it says and how many heap objects that took.
func (e *Engine) LeadsBack(addr netip.AddrPort, n int) (is bool, allocs float64) {
	done := make(chan struct{})
	l := e.loops[0]
	l.post(func() error {
		defer close(done)
		allocs = testing.AllocsPerRun(n, func() { is = l.leadsBack(addr) })
		return nil
	})
	<-done
	return is, allocs
}

// Supersede makes t the newest table before the binder sees it.
func (e *Engine) Supersede(t *route.Table) { e.table.Store(t) }

// HoldLoop stops one loop until it is released.
func (e *Engine) HoldLoop(i int) (release func()) {
	held, free := make(chan struct{}), make(chan struct{})
	e.loops[i].post(func() error { close(held); <-free; return nil })
	<-held
	return sync.OnceFunc(func() { close(free) })
}
