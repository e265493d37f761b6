package load

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"dill/bench/sink"
	"dill/dataplane/dptest"
)

func TestMain(m *testing.M) { dptest.Main(m, nil) }

// serve runs a sink that sends through lie, until the test ends.
func serve(t *testing.T, lie func([]byte)) []netip.AddrPort {
	t.Helper()
	s, err := sink.New(2)
	if err != nil {
		t.Fatal(err)
	}
	s.Lie = lie
	done := make(chan error, 1)
	go func() { done <- s.Serve() }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s.Addrs()
}

// short is a little of every kind of load.
func short(targets []netip.AddrPort) map[string]Spec {
	spec := Spec{Targets: targets, Conns: 3, Size: 64, Warmup: 10 * time.Millisecond, Duration: 50 * time.Millisecond, Patience: 2 * time.Second}
	with := func(change func(*Spec)) Spec {
		s := spec
		change(&s)
		return s
	}
	return map[string]Spec{
		"upload":   with(func(s *Spec) { s.Kind = Bulk }),
		"download": with(func(s *Spec) { s.Kind, s.Download = Bulk, true }),
		"requests": with(func(s *Spec) { s.Kind = Requests }),
		"thinking": with(func(s *Spec) { s.Kind, s.Think = Requests, time.Millisecond }),
		"large":    with(func(s *Spec) { s.Kind, s.Size = Requests, 1<<20 }),
		"open":     with(func(s *Spec) { s.Kind, s.Rate = Open, 2000 }),
		"connects": with(func(s *Spec) { s.Kind = Connects }),
		"idle": with(func(s *Spec) {
			s.Kind, s.Stages, s.Moved, s.Settle = Idle, []int{2, 5}, 300_000, time.Millisecond
			s.Watch = map[string][]int{"proxy": {os.Getpid()}}
		}),
	}
}

func TestEveryKind(t *testing.T) {
	targets := serve(t, nil)
	for name, spec := range short(targets) {
		t.Run(name, func(t *testing.T) {
			r, err := Run(t.Context(), spec)
			// On a busy machine a window may close before anything has happened.
			for err == nil && spec.Kind != Idle && r.Bytes < 1<<20 && r.Ops == 0 && spec.Duration < dptest.Patience {
				spec.Duration *= 2
				r, err = Run(t.Context(), spec)
			}
			if err != nil {
				t.Fatal(err)
			}
			switch spec.Kind {
			case Idle:
				if len(r.Stages) != 2 || r.Stages[1].Conns != 5 || r.Stages[1].RSS == 0 {
					t.Errorf("stages %+v", r.Stages)
				}
				// This process is client and sink at once: two for each.
				if got := r.Stages[1].Files - r.Stages[0].Files; got != 2*3 {
					t.Errorf("3 connections took %d descriptors, want 6", got)
				}
				return
			case Bulk:
				if r.Bytes < 1<<20 {
					t.Errorf("only %d bytes moved", r.Bytes)
				}
			default:
				if r.Ops < 1 || r.AllOps < r.Ops {
					t.Errorf("%d operations, %d with the warm-up", r.Ops, r.AllOps)
				}
				h, err := r.Histogram()
				if err != nil || h.TotalCount() != int64(r.Ops) {
					t.Errorf("%d latencies of %d operations, %v", h.TotalCount(), r.Ops, err)
				}
			}
			if r.Elapsed < spec.Duration || r.CPU["client"] <= 0 {
				t.Errorf("the window was %v long and took %v of processor time", r.Elapsed, r.CPU["client"])
			}
		})
	}
}

func TestLyingSinkIsCaught(t *testing.T) {
	targets := serve(t, func(b []byte) { b[len(b)/2] ^= 0x20 })
	for name, spec := range short(targets) {
		if name == "idle" || name == "large" {
			continue // the first has nothing to lie about, the second samples
		}
		t.Run(name, func(t *testing.T) {
			if r, err := Run(t.Context(), spec); err == nil {
				t.Errorf("passed: %+v", r)
			}
		})
	}
}

func TestRateOfOpenLoop(t *testing.T) {
	spec := short(serve(t, nil))["open"]
	spec.Duration = 500 * time.Millisecond
	r, err := Run(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	// 1,000 requests on average, Poisson: 5 standard deviations are 158. On a
	// machine that stalls some come late, but they come.
	if r.Ops < 800 || r.Ops > 1300 {
		t.Errorf("%d requests in %v at 2,000 a second", r.Ops, r.Elapsed)
	}
}

func TestNobodyListens(t *testing.T) {
	s, err := sink.New(1)
	if err != nil {
		t.Fatal(err)
	}
	targets := s.Addrs()
	s.Stop()
	if err := s.Serve(); err != nil { // returns at once, and closes
		t.Fatal(err)
	}
	for name, spec := range short(targets) {
		if _, err := Run(t.Context(), spec); err == nil || !strings.Contains(err.Error(), "connect") {
			t.Errorf("%s: %v, want an error that says connect", name, err)
		}
	}
}

func TestCancelled(t *testing.T) {
	targets := serve(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, spec := range short(targets) {
		spec.Duration = time.Hour
		if _, err := Run(ctx, spec); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want context.Canceled", name, err)
		}
	}
}

func TestProbe(t *testing.T) {
	targets := serve(t, nil)
	if err := Probe(targets[0], time.Second); err != nil {
		t.Error(err)
	}
	liar := serve(t, func(b []byte) { b[0]++ })
	if err := Probe(liar[0], time.Second); err == nil {
		t.Error("a lie passed the probe")
	}
}
