package file

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestBurst(t *testing.T) {
	const ms = time.Millisecond
	type change struct{ after, pause time.Duration }
	var steady []change
	for range 200 {
		steady = append(steady, change{10 * ms, pauseWritten})
	}
	for name, tt := range map[string]struct {
		changes []change
		over    time.Duration // after the first change
	}{
		"replaced":               {[]change{{0, pauseReplaced}}, 5 * ms},
		"written":                {[]change{{0, pauseWritten}}, 50 * ms},
		"replaced, then written": {[]change{{0, pauseReplaced}, {3 * ms, pauseWritten}, {40 * ms, pauseWritten}}, 93 * ms},
		"written, then replaced": {[]change{{0, pauseWritten}, {10 * ms, pauseReplaced}}, 50 * ms},
		"written without end":    {steady, burstMost},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var b burst
				defer b.stop()
				var began time.Time
				next := 0
				step := time.NewTimer(tt.changes[0].after)
				for {
					select {
					case <-step.C:
						if next == 0 {
							began = time.Now()
						}
						b.more(tt.changes[next].pause)
						if next++; next < len(tt.changes) {
							step.Reset(tt.changes[next].after)
						}
					case <-b.over():
						step.Stop()
						if got := time.Since(began); got != tt.over {
							t.Errorf("over after %s, want %s", got, tt.over)
						}
						if b.patience() != (tt.over < burstMost) {
							t.Errorf("patience %t after %s", b.patience(), tt.over)
						}
						return
					}
				}
			})
		})
	}
}

// A burst that turns out not to be over is waited out, but only so long.
func TestBurstRunsOutOfPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b burst
		defer b.stop()
		began := time.Now()
		b.more(pauseReplaced)
		for <-b.over(); b.patience(); <-b.over() {
			b.more(pauseWritten)
		}
		if got := time.Since(began); got != burstMost {
			t.Errorf("patience lasted %s, want %s", got, burstMost)
		}
		b.done()
		began = time.Now()
		b.more(pauseReplaced)
		<-b.over()
		if got := time.Since(began); got != pauseReplaced || !b.patience() {
			t.Errorf("the next burst was over after %s, patience %t", got, b.patience())
		}
	})
}
