package dataplane

import (
	"bytes"
	"sync/atomic"
	"testing"

	"dill/dataplane/internal/sys"
)

// TestBufferPoolPicksTheSmallestClass: a stalled reader costs no more than the
// smallest buffer that holds its rest.
func TestBufferPoolPicksTheSmallestClass(t *testing.T) {
	for _, c := range []struct{ n, size int }{
		{1, 4 << 10}, {4 << 10, 4 << 10}, {4<<10 + 1, 16 << 10}, {16 << 10, 16 << 10}, {16<<10 + 1, scratchSize}, {scratchSize, scratchSize},
	} {
		var bp bufferPool
		p := bytes.Repeat([]byte{7}, c.n)
		b := bp.get(p)
		if len(b.data) != c.size || !bytes.Equal(b.data[b.off:b.end], p) {
			t.Errorf("get(%d bytes): a buffer of %d with %d bytes, want %d", c.n, len(b.data), b.end-b.off, c.size)
		}
		if bp.held != c.size {
			t.Errorf("held %d, want %d", bp.held, c.size)
		}
		bp.put(b)
		if bp.held != 0 || bp.kept != c.size {
			t.Errorf("after put: held %d, kept %d, want 0 and %d", bp.held, bp.kept, c.size)
		}
		if again := bp.get(p[:1]); c.size == 4<<10 && again != b {
			t.Error("a free buffer was not used again")
		}
	}
}

func TestBufferPoolKeepsNoMoreThanItsBound(t *testing.T) {
	var bp bufferPool
	var all []*buffer
	for range 2 * bufferKeep / scratchSize {
		all = append(all, bp.get(make([]byte, scratchSize)))
	}
	for _, b := range all {
		bp.put(b)
	}
	if bp.kept > bufferKeep || bp.held != 0 {
		t.Errorf("kept %d of at most %d, held %d", bp.kept, bufferKeep, bp.held)
	}
}

// TestPipePoolClosesResidue: a pipe with bytes left in it must never reach its
// next borrower, who would deliver them to a stranger.
func TestPipePoolClosesResidue(t *testing.T) {
	pp := pipePool{ask: defaultPipeSize, most: allPipes()}
	t.Cleanup(func() { pp.drain() })
	clean, dirty := pp.get(0), pp.get(0)
	if clean == nil || dirty == nil {
		t.Fatal("no pipes to be had")
	}
	dirty.n = 1
	pp.put(dirty)
	pp.put(clean)
	if dirty.r != -1 || pp.open != 1 || pp.kept != 1 {
		t.Errorf("residue: fd %d, %d open, %d kept; want -1, 1, 1", dirty.r, pp.open, pp.kept)
	}
	if p := pp.get(0); p != clean {
		t.Error("the clean pipe was not used again")
	} else {
		pp.put(p)
	}
}

func TestPipePoolIsBounded(t *testing.T) {
	pp := pipePool{ask: pipeMin, most: allPipes()}
	var all []*pipe
	for p := pp.get(0); p != nil; p = pp.get(0) {
		all = append(all, p)
	}
	if len(all) > pipesMax {
		t.Errorf("%d pipes open, want at most %d", len(all), pipesMax)
	}
	for _, p := range all {
		pp.put(p)
	}
	if pp.kept > pipesKept || pp.open != pp.kept {
		t.Errorf("%d kept, %d open, want at most %d", pp.kept, pp.open, pipesKept)
	}
	pp.drain()
	if pp.open != 0 {
		t.Errorf("%d open after drain", pp.open)
	}
}

// TestPipePoolDeclinesSmallPipes: beyond its soft limit an unprivileged user
// gets pipes of a page or two, which are not worth their calls.
func TestPipePoolDeclinesSmallPipes(t *testing.T) {
	pp := pipePool{ask: 4096, most: allPipes()}
	if p := pp.get(0); p != nil {
		t.Errorf("got a pipe of %d bytes", p.size)
	}
	if pp.open != 0 || pp.retryAt != pipeRetry {
		t.Errorf("%d open, retry at %d; want 0 and %d", pp.open, pp.retryAt, pipeRetry)
	}
	pp.ask = pipeMin
	if p := pp.get(pipeRetry - 1); p != nil {
		t.Error("asked again before its time")
	}
	if p := pp.get(pipeRetry); p == nil {
		t.Error("did not ask again")
	} else {
		pp.close(p)
	}
}

// TestSlabGivesEverySlotANewGeneration: a late event on a reused slot must not
// find the new session.
func TestSlabGivesEverySlotANewGeneration(t *testing.T) {
	var sb slab
	seen := make(map[sys.Key]bool)
	for range 3 {
		var live []*session
		for range slabSize + 1 {
			s := sb.get()
			s.phase = relaying
			for i := range s.side {
				if k := s.key(i); seen[k] {
					t.Fatalf("key %+v came twice", k)
				} else {
					seen[k] = true
				}
				if s.side[i].fd != -1 {
					t.Fatalf("a new session has fd %d", s.side[i].fd)
				}
			}
			live = append(live, s)
		}
		n := 0
		sb.each(func(s *session) { n++; sb.put(s) })
		if n != len(live) || sb.live != 0 {
			t.Fatalf("each met %d of %d, %d left", n, len(live), sb.live)
		}
	}
	if len(sb.chunks) != 2 {
		t.Errorf("%d chunks for %d sessions at once, want 2", len(sb.chunks), slabSize+1)
	}
}

// allPipes is a share that is as large as it gets.
func allPipes() *atomic.Int64 {
	n := new(atomic.Int64)
	n.Store(pipesMax)
	return n
}
