package dataplane

import "time"

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

// Age makes every session d older.
func (e *Engine) Age(d time.Duration) {
	for _, l := range e.loops {
		l.post(func() error {
			l.each(func(s *session) {
				s.born -= ms(d)
				l.armRelay(s)
			})
			return nil
		})
	}
}
