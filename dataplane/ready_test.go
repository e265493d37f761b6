package dataplane

import (
	"math/rand/v2"
	"testing"
)

// TestReadyQueueKeepsOrder: whatever comes and goes, and however the ring
// grows, the oldest is next.
func TestReadyQueueKeepsOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var q readyQueue
	pushed, popped := uint32(0), uint32(0)
	for range 10_000 {
		if q.len == 0 || random.IntN(9) > 3 {
			q.push(readyKey{slot: int32(pushed), gen: pushed})
			pushed++
		} else {
			if k := q.pop(); k != (readyKey{int32(popped), popped}) {
				t.Fatalf("popped %v, want %d", k, popped)
			}
			popped++
		}
		if q.len != int(pushed-popped) {
			t.Fatalf("%d in the queue, want %d", q.len, pushed-popped)
		}
	}
	if len(q.ring) < 1024 {
		t.Errorf("the ring has %d places: this test did not make it grow", len(q.ring))
	}
}

func TestReadyQueueDoesNotAllocate(t *testing.T) {
	var q readyQueue
	for range 100 {
		q.push(readyKey{})
	}
	if n := testing.AllocsPerRun(1000, func() { q.push(q.pop()) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
