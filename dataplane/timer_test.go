package dataplane

import (
	"math/rand/v2"
	"testing"
)

// TestWheelFiresEveryTimerOnce holds the wheel against a plain list: every
// armed timer fires once, at the first advance at or after its deadline, and a
// disarmed one never.
func TestWheelFiresEveryTimerOnce(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		w := &wheel{now: r.Int64N(1 << 40)}
		clock := w.now
		timers := make([]timer, 50)
		want := map[*timer]int64{}
		for range 400 {
			tm := &timers[r.IntN(len(timers))]
			switch r.IntN(4) {
			case 0, 1:
				d := clock + r.Int64N(1<<r.IntN(34)) - 3
				w.arm(tm, d)
				want[tm] = max(d, clock+1) // a deadline in the past waits for the next tick
			case 2:
				w.disarm(tm)
				delete(want, tm)
			case 3:
				clock += r.Int64N(1 << r.IntN(32))
				if at, ok := w.next(); ok != (len(want) > 0) {
					t.Fatalf("seed %d: next = %d, %v with %d armed", seed, at, ok, len(want))
				}
				for f := w.expire(clock); f != nil; f = w.expire(clock) {
					d, ok := want[f]
					if !ok || d > clock {
						t.Fatalf("seed %d: fired at %d, deadline %d, armed %v", seed, clock, d, ok)
					}
					delete(want, f)
				}
				for f, d := range want {
					if d <= clock {
						t.Fatalf("seed %d: deadline %d missed at %d (%v)", seed, d, clock, f.armed)
					}
				}
			}
			// The promise next makes: never later than the earliest deadline.
			if at, ok := w.next(); ok {
				for _, d := range want {
					if at > max(d, w.now+1) {
						t.Fatalf("seed %d: next %d is after deadline %d", seed, at, d)
					}
				}
			}
		}
	}
}

func TestWheelArmBeforeOnlyMovesEarlier(t *testing.T) {
	w, tm := &wheel{}, &timer{}
	w.armBefore(tm, 50)
	w.armBefore(tm, 80)
	if tm.deadline != 50 {
		t.Errorf("deadline %d, want 50", tm.deadline)
	}
	w.armBefore(tm, 20)
	if tm.deadline != 20 {
		t.Errorf("deadline %d, want 20", tm.deadline)
	}
}

func BenchmarkWheelArmDisarm(b *testing.B) {
	w, tm := &wheel{}, &timer{}
	b.ReportAllocs()
	for b.Loop() {
		w.arm(tm, w.now+5000)
		w.disarm(tm)
	}
}
