package main

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"dill/controlplane/source"
)

// hanging is a source that looks at nothing while it is stuck, as one that reads
// a file of a network file system that hangs.
type hanging struct {
	sink  chan source.Sink // gets the sink that Run was called with
	stuck chan struct{}
}

func newHanging() *hanging {
	return &hanging{make(chan source.Sink, 1), make(chan struct{})}
}

func (h *hanging) Name() string { return "file" }

func (h *hanging) Run(_ context.Context, sink source.Sink) error {
	h.sink <- sink
	<-h.stuck
	return nil
}

// A source that does not end holds neither a reload nor the end up, says nothing
// any more, and is replaced after a while.
func TestHangingSourceHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := 0
		s := newRunner(t.Context(), func(source.Snapshot) { told++ }, slog.New(slog.DiscardHandler))
		old, new := newHanging(), newHanging()
		s.run(map[string]wanted{"file": {source: old, spec: 1}})
		sink := <-old.sink
		sink(source.Snapshot{})

		next := map[string]wanted{"file": {source: new, spec: 2}}
		s.stop(next)
		sink(source.Snapshot{})
		if told != 1 {
			t.Errorf("%d snapshots counted, want only the one before stop", told)
		}
		began := time.Now()
		s.run(next)
		sink = <-new.sink
		if waited := time.Since(began); waited != handover {
			t.Errorf("replaced after %v, want %v", waited, handover)
		}
		sink(source.Snapshot{})
		if told != 2 {
			t.Error("the new source is not heard")
		}
		s.stop(nil)
		close(old.stuck)
		close(new.stuck)
	})
}

// One that ends is replaced then, not before: both would have connections open.
func TestSourceWaitsForTheOneItReplaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRunner(t.Context(), func(source.Snapshot) {}, slog.New(slog.DiscardHandler))
		old, new := newHanging(), newHanging()
		s.run(map[string]wanted{"file": {source: old, spec: 1}})
		<-old.sink
		next := map[string]wanted{"file": {source: new, spec: 2}}
		s.stop(next)
		s.run(next)
		synctest.Wait()
		if len(new.sink) > 0 {
			t.Fatal("the new source runs beside the old one")
		}
		close(old.stuck)
		synctest.Wait()
		if len(new.sink) == 0 {
			t.Fatal("the new source does not run")
		}
		s.stop(nil)
		close(new.stuck)
	})
}
