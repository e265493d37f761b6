package dataplane

import (
	"log/slog"
	"math"
	"net/netip"
	"os"
	"testing"

	"dill/dataplane/internal/sys"
)

// TestReserve: what is left to the control plane.
func TestReserve(t *testing.T) {
	for files, want := range map[uint64]uint64{0: 0, 3: 0, 64: 16, 1000: 250, 1024: 256, 20000: 256, 1 << 30: 256} {
		if got := Reserve(files); got != want {
			t.Errorf("of %d files, %d are reserved, want %d", files, got, want)
		}
	}
}

// TestBudget: everything that the data plane holds fits in what it may have;
// clients come before pipes, and one is always let in.
func TestBudget(t *testing.T) {
	for _, tt := range []struct {
		files            uint64
		loops, listeners int
		clients, pipes   int // at least, at most
	}{
		{20_000, 2, 10, 9_700, 50},
		{20_000, 8, 10, 9_650, 13},
		{20_000, 2, 2_000, 7_700, 40},
		{1024, 2, 0, 340, 8},
		{1024, 2, 300, 70, 2},
		{1024, 2, 100_000, 1, 0},
		{64, 2, 1, 14, 0},
		{16, 2, 0, 1, 0},
		{0, 1, 0, 1, 0},
		{1 << 20, 2, 100, 520_000, pipesMax},
		{math.MaxUint64, 4, 100, 1_000_000_000, pipesMax},
	} {
		clients, pipes := Budget(tt.files, tt.loops, tt.listeners)
		if clients < tt.clients || pipes > tt.pipes || pipes < tt.pipes*9/10 {
			t.Errorf("%+v: %d clients and %d pipes a loop", tt, clients, pipes)
		}
		held := int(Reserve(tt.files)) + 2*clients + tt.loops*(loopFiles+tt.listeners+2*pipes)
		if clients > 1 && uint64(held) > tt.files {
			t.Errorf("%+v: %d descriptors in all", tt, held)
		}
	}
}

// TestLoopFiles: a loop has as many descriptors as its budget says.
func TestLoopFiles(t *testing.T) {
	const loops = 3
	files := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	before := files()
	e, err := New(Config{Loops: loops}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	got := files() - before
	if err := e.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if want := loops * (loopFiles - 1); got != want { // but for a client that comes
		t.Errorf("%d loops have %d descriptors, want %d", loops, got, want)
	}
}

// TestPipesYield: a loop has no more pipes than its share, and gives back those
// that are too many when it shrinks.
func TestPipesYield(t *testing.T) {
	pp := pipePool{ask: pipeMin, most: allPipes()}
	defer func() { pp.drain() }()
	pp.most.Store(2)
	a, b := pp.get(0), pp.get(0)
	if pp.get(0) != nil {
		t.Error("there was a third pipe in a share of two")
	}
	pp.most.Store(0)
	pp.put(a)
	if pp.open != 1 || pp.kept != 0 {
		t.Errorf("%d open, %d kept after one of two was given back, want 1 and 0", pp.open, pp.kept)
	}
	pp.most.Store(1)
	pp.put(b)
	pp.shed(0)
	if pp.open != 0 {
		t.Errorf("%d open without a share", pp.open)
	}
}

// TestReserveBecomesTheUpstream: when descriptors are out, the socket that a
// loop holds in reserve is the one that connects, so that no other loop can
// take its descriptor in between.
func TestReserveBecomesTheUpstream(t *testing.T) {
	l := &loop{cfg: new(Config), reserve: -1, reserveFamily: netip.IPv4Unspecified()}
	if e := l.refill(); e != 0 {
		t.Fatal(e)
	}
	held := l.reserve
	fd, e := l.dialReserve(netip.MustParseAddrPort("127.0.0.1:1"), sys.EMFILE)
	if fd != held || e != sys.EINPROGRESS || l.reserve != -1 {
		t.Errorf("descriptor %d, %v, reserve %d; want %d, %v, -1", fd, e, l.reserve, held, sys.EINPROGRESS)
	}
	sys.Close(fd)
	// The reserve follows the family of the backends that need it.
	six := netip.MustParseAddrPort("[::1]:1")
	_ = l.refill()
	if fd, _ = l.dialReserve(six, sys.EMFILE); fd >= 0 {
		sys.Close(fd)
	}
	_ = l.refill()
	held = l.reserve
	if fd, _ = l.dialReserve(six, sys.EMFILE); fd != held && fd >= 0 {
		t.Errorf("descriptor %d, want the reserve %d", fd, held)
	}
	sys.Close(fd)
	if fd, e := l.dialReserve(six, sys.EMFILE); fd != -1 || e != sys.EMFILE {
		t.Errorf("without a reserve: %d, %v", fd, e)
	}
}
