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
