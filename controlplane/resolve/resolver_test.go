package resolve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"dill/dataplane/dptest"
)

func TestMain(m *testing.M) {
	dptest.Isolate()
	goleak.VerifyTestMain(m)
}

// names is a scripted name server.
type names struct {
	mu      sync.Mutex
	answers map[string][]netip.Addr // nil entry or none = no such host
	asked   map[string]int
	delay   time.Duration
}

func (s *names) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	s.mu.Lock()
	s.asked[host]++
	addrs, delay := s.answers[host], s.delay
	s.mu.Unlock()
	select {
	case <-time.After(delay):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if addrs == nil {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return addrs, nil
}

func (s *names) set(host string, addrs ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[host] = nil
	for _, a := range addrs {
		s.answers[host] = append(s.answers[host], netip.MustParseAddr(a))
	}
}

func (s *names) count(host string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[host]
}

// world runs f inside a bubble with a Resolver on a scripted name server.
func world(t *testing.T, f func(t *testing.T, r *Resolver, s *names, changes *atomic.Int32)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &names{answers: make(map[string][]netip.Addr), asked: make(map[string]int), delay: 3 * time.Millisecond}
		var changes atomic.Int32
		r := New(s.lookup, func() { changes.Add(1) }, slog.New(slog.DiscardHandler))
		defer r.Close()
		f(t, r, s, &changes)
	})
}

func text(addrs []netip.Addr) string { return fmt.Sprint(addrs) }

func TestLiteralNeedsNoLookup(t *testing.T) {
	world(t, func(t *testing.T, r *Resolver, s *names, _ *atomic.Int32) {
		for in, want := range map[string]string{
			"10.0.0.1":        "[10.0.0.1]",
			"::1":             "[::1]",
			"::ffff:10.0.0.2": "[10.0.0.2]",
		} {
			got, err := r.Lookup(in)
			if err != nil || text(got) != want {
				t.Errorf("Lookup(%q) = %v, %v, want %s", in, got, err, want)
			}
		}
		if len(r.names) != 0 {
			t.Errorf("%d names cached for literals", len(r.names))
		}
	})
}

func TestLookupIsPendingThenNormal(t *testing.T) {
	world(t, func(t *testing.T, r *Resolver, s *names, changes *atomic.Int32) {
		s.set("db.example", "10.0.0.9", "::ffff:10.0.0.1", "10.0.0.9", "0.0.0.0", "fd00::1")
		if got, err := r.Lookup("db.example"); !errors.Is(err, ErrPending) || got != nil {
			t.Fatalf("first Lookup = %v, %v, want ErrPending", got, err)
		}
		time.Sleep(10 * time.Millisecond)
		got, err := r.Lookup("db.example")
		if err != nil || text(got) != "[10.0.0.1 10.0.0.9 fd00::1]" {
			t.Fatalf("Lookup = %v, %v, want sorted, unmapped, unique", got, err)
		}
		if changes.Load() != 1 || s.count("db.example") != 1 {
			t.Fatalf("%d changes, %d lookups, want 1 and 1", changes.Load(), s.count("db.example"))
		}
	})
}

func TestRefreshTellsOnlyChanges(t *testing.T) {
	world(t, func(t *testing.T, r *Resolver, s *names, changes *atomic.Int32) {
		s.set("db", "10.0.0.1")
		r.Lookup("db")
		time.Sleep(2 * time.Minute)
		if n := s.count("db"); n < 4 || n > 6 {
			t.Errorf("%d lookups in 2 minutes, want one each 30 s", n)
		}
		if changes.Load() != 1 {
			t.Errorf("%d changes told, want 1", changes.Load())
		}
		s.set("db", "10.0.0.2")
		time.Sleep(35 * time.Second)
		if got, _ := r.Lookup("db"); text(got) != "[10.0.0.2]" || changes.Load() != 2 {
			t.Errorf("after a move: %v, %d changes, want the new address and 2", got, changes.Load())
		}
	})
}

func TestFailureKeepsLastGood(t *testing.T) {
	world(t, func(t *testing.T, r *Resolver, s *names, changes *atomic.Int32) {
		s.set("db", "10.0.0.1")
		r.Lookup("db")
		time.Sleep(time.Second)
		s.set("db")
		time.Sleep(10 * time.Minute)
		if got, err := r.Lookup("db"); err != nil || text(got) != "[10.0.0.1]" {
			t.Errorf("Lookup = %v, %v, want the last good address", got, err)
		}
		if changes.Load() != 1 {
			t.Errorf("%d changes told, want 1", changes.Load())
		}
	})
}

func TestNegativeBacksOff(t *testing.T) {
	world(t, func(t *testing.T, r *Resolver, s *names, changes *atomic.Int32) {
		r.Lookup("nope")
		time.Sleep(time.Second)
		if _, err := r.Lookup("nope"); err == nil || errors.Is(err, ErrPending) || err.Error() != "look up nope: no such host" {
			t.Errorf("Lookup of an unknown host: %v", err)
		}
		time.Sleep(5 * time.Second)
		if n := s.count("nope"); n != 2 {
			t.Errorf("%d lookups after 6 s, want the second at about 5 s", n)
		}
		// 5+10+20+40 s, then one a minute.
		time.Sleep(5 * time.Minute)
		if n := s.count("nope"); n < 6 || n > 10 {
			t.Errorf("%d lookups after 5 minutes, want a back-off up to a minute", n)
		}
		if changes.Load() != 1 {
			t.Errorf("%d changes told for one unchanging error", changes.Load())
		}
		s.set("nope", "10.0.0.3")
		time.Sleep(70 * time.Second)
		if got, err := r.Lookup("nope"); err != nil || text(got) != "[10.0.0.3]" || changes.Load() != 2 {
			t.Errorf("after it appeared: %v, %v, %d changes", got, err, changes.Load())
		}
	})
}

func TestSweepForgetsUnused(t *testing.T) {
	world(t, func(t *testing.T, r *Resolver, s *names, _ *atomic.Int32) {
		s.set("old", "10.0.0.1")
		s.set("kept", "10.0.0.2")
		r.Lookup("old")
		r.Lookup("kept")
		r.Sweep()
		for range 20 {
			time.Sleep(30 * time.Second)
			r.Lookup("kept")
			r.Sweep()
		}
		r.mu.Lock()
		_, old := r.names["old"]
		_, kept := r.names["kept"]
		r.mu.Unlock()
		if old || !kept {
			t.Errorf("old known: %v, kept known: %v", old, kept)
		}
		before := s.count("old")
		time.Sleep(5 * time.Minute)
		if s.count("old") != before {
			t.Error("a forgotten name is still looked up")
		}
	})
}

// Without walks (a quiet table) no name ages out, however long it lasts.
func TestQuietNamesStay(t *testing.T) {
	world(t, func(t *testing.T, r *Resolver, s *names, _ *atomic.Int32) {
		s.set("db", "10.0.0.1")
		r.Lookup("db")
		r.Sweep()
		time.Sleep(24 * time.Hour)
		if got, err := r.Lookup("db"); err != nil || text(got) != "[10.0.0.1]" {
			t.Errorf("after a quiet day: %v, %v", got, err)
		}
	})
}

func TestLookupsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now, peak atomic.Int32
		r := New(func(ctx context.Context, _ string) ([]netip.Addr, error) {
			peak.Store(max(peak.Load(), now.Add(1)))
			defer now.Add(-1)
			<-ctx.Done() // a name server that is silent
			return nil, ctx.Err()
		}, nil, slog.New(slog.DiscardHandler))
		defer r.Close()
		for i := range 100 {
			if _, err := r.Lookup(fmt.Sprintf("h%d", i)); !errors.Is(err, ErrPending) {
				t.Fatalf("Lookup waits or fails: %v", err)
			}
		}
		synctest.Wait()
		if now.Load() != maxConcurrent {
			t.Errorf("%d lookups at once, want %d", now.Load(), maxConcurrent)
		}
		time.Sleep(2 * time.Minute)
		if peak.Load() > maxConcurrent {
			t.Errorf("peak of %d lookups at once", peak.Load())
		}
	})
}

func TestCloseCancelsRunningLookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := false
		r := New(func(ctx context.Context, _ string) ([]netip.Addr, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}, func() { told = true }, slog.New(slog.DiscardHandler))
		r.Lookup("db")
		r.Close()
		if told {
			t.Error("a closed Resolver told a change")
		}
	})
}

func TestInValidNames(t *testing.T) {
	world(t, func(t *testing.T, r *Resolver, s *names, _ *atomic.Int32) {
		for _, host := range []string{"", ".", "a..b", "10.0.0", "1.2.3.4.5", "-a", "a-", "a b", "a\x1b[2J", "ö",
			strings.Repeat("a", 64), strings.Repeat("a.", 127) + "aa", "10.0.0.1:80", "a/b"} {
			if _, err := r.Lookup(host); err == nil || errors.Is(err, ErrPending) || strings.ContainsRune(err.Error(), 0x1b) {
				t.Errorf("Lookup(%q): %v", host, err)
			}
		}
		for _, host := range []string{"a", "a.b.", "node-1.dc1.consul", "_x.y", "1a.2b", "XN--abc"} {
			if _, err := r.Lookup(host); !errors.Is(err, ErrPending) {
				t.Errorf("Lookup(%q): %v, want ErrPending", host, err)
			}
		}
	})
}

func FuzzName(f *testing.F) {
	f.Add("db.example")
	f.Add("10.0.0.1")
	f.Fuzz(func(t *testing.T, host string) {
		if ValidName(host) && strings.ContainsFunc(host, func(c rune) bool { return c <= ' ' || c > '~' }) {
			t.Errorf("%q accepted", host)
		}
	})
}

func TestAddressesAreCapped(t *testing.T) {
	var in []netip.Addr
	for i := range 1000 {
		in = append(in, netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}))
	}
	out := normal(in)
	if len(out) != maxAddrs || !slices.IsSortedFunc(out, netip.Addr.Compare) {
		t.Errorf("%d addresses kept", len(out))
	}
}

func TestSystemResolvesLocalhost(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	addrs, err := systemLookup(ctx, "localhost")
	if err != nil || !slices.ContainsFunc(addrs, netip.Addr.IsLoopback) {
		t.Errorf("localhost = %v, %v", addrs, err)
	}
}
