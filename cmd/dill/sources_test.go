package main

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"dill/controlplane/compile"
	"dill/controlplane/config"
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

// TestUpstreams: what the sources are asked at, with the port that their scheme
// implies. A socket file has none.
func TestUpstreams(t *testing.T) {
	c := &config.Config{}
	c.Consul.Enabled, c.Consul.Address = true, "http://user:pass@[::1]:8500/prefix"
	c.Nomad.Enabled, c.Nomad.Address = true, "https://nomad.example"
	c.HTTP.Endpoint = "http://127.0.0.1/routes"
	want := []compile.Upstream{{Setting: "consul.address", Host: "::1", Port: 8500}, {Setting: "nomad.address", Host: "nomad.example", Port: 443}, {Setting: "http.endpoint", Host: "127.0.0.1", Port: 80}}
	if got := upstreams(c); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	c = &config.Config{}
	c.Consul.Enabled, c.Consul.Address, c.Nomad.Address = true, "unix:///run/consul.sock", "http://127.0.0.1:4646"
	if got := upstreams(c); len(got) != 0 {
		t.Errorf("got %v, want none", got)
	}
}
