package file

import "time"

const (
	// pauseReplaced follows a file that appeared under its name: it is
	// complete, or will be written to right away.
	pauseReplaced = 5 * time.Millisecond

	// pauseWritten is the silence that ends a series of writes.
	pauseWritten = 50 * time.Millisecond

	// burstMost is how long a series of changes is waited out.
	burstMost = time.Second
)

// burst is a series of changes that belong together. It is over when none has
// come for a pause, or after burstMost. The zero value is ready; one goroutine
// uses it.
type burst struct {
	timer *time.Timer
	began time.Time // zero = none under way
	ends  time.Time
}

// more adds a change that wants silence for pause after it. A change never
// brings the end nearer than an earlier one has set it.
func (b *burst) more(pause time.Duration) {
	now := time.Now()
	if !b.active() {
		b.began, b.ends = now, now
	}
	if ends := now.Add(pause); ends.After(b.ends) {
		b.ends = ends
	}
	if last := b.began.Add(burstMost); b.ends.After(last) {
		b.ends = last
	}
	if b.timer == nil {
		b.timer = time.NewTimer(b.ends.Sub(now))
	} else {
		b.timer.Reset(b.ends.Sub(now))
	}
}

// over delivers once when the burst under way has ended. Then either done or,
// if it turned out not to have ended and there is patience, more is called.
func (b *burst) over() <-chan time.Time {
	if b.timer == nil {
		return nil
	}
	return b.timer.C
}

// patience tells whether burstMost still leaves time to wait.
func (b *burst) patience() bool {
	return !b.active() || time.Since(b.began) < burstMost
}

func (b *burst) active() bool { return !b.began.IsZero() }

func (b *burst) done() { b.began = time.Time{} }

func (b *burst) stop() {
	if b.timer != nil {
		b.timer.Stop()
	}
}
