package route

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"syscall"
	"testing"
)

var allStrategies = []Strategy{RoundRobin, LeastConn, Random, SourceHash}

// TestPickTriesEveryBackendOnce holds for each strategy, whatever is ejected:
// in rotation first, then the ejected, nobody twice, nil at the end.
func TestPickTriesEveryBackendOnce(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 2))
		for _, s := range allStrategies {
			w := make([]int, r.IntN(24))
			for i := range w {
				w[i] = 1 + r.IntN(20)
			}
			l := listener(s, w...)
			open := 0
			for _, b := range l.Backends {
				b.State.Active.Store(r.Int64N(5))
				if r.IntN(3) == 0 {
					b.State.out.Store(1000)
				} else {
					open++
				}
			}
			var tried Tried
			seen := map[*Backend]bool{}
			for n := 0; ; n++ {
				b := l.Pick(500, client(r.IntN(1000)), &tried)
				if b == nil {
					if n != min(len(w), MaxTries) {
						t.Fatalf("seed %d %v: nil after %d of %d", seed, s, n, len(w))
					}
					break
				}
				if seen[b] {
					t.Fatalf("seed %d %v: picked %v twice", seed, s, b.Addr)
				}
				seen[b] = true
				if out := b.State.out.Load() != 0; out != (n >= open) {
					t.Fatalf("seed %d %v: pick %d ejected %v with %d in rotation", seed, s, n, out, open)
				}
			}
		}
	}
}

func TestRoundRobinCursorSurvivesSwap(t *testing.T) {
	tab := NewTable(1, []*Listener{{Addr: addrA, Backends: backends(1, 1, 1)}}, nil, nil)
	var got []int
	for gen := range uint64(6) {
		got = append(got, pick(tab.Listeners[0], 1, client(0)))
		tab = NewTable(gen+2, []*Listener{{Addr: addrA, Backends: backends(1, 1, 1), MaxConnections: int(gen)}}, nil, tab)
	}
	if want := []int{0, 1, 2, 0, 1, 2}; !slices.Equal(got, want) {
		t.Errorf("picked %v, want %v", got, want)
	}
}

func TestRoundRobinIsSmooth(t *testing.T) {
	l := listener(RoundRobin, 5, 1, 1)
	var got []int
	for range 7 {
		got = append(got, pick(l, 1, client(0)))
	}
	if want := []int{0, 0, 1, 0, 2, 0, 0}; !slices.Equal(got, want) {
		t.Errorf("picked %v, want %v", got, want)
	}
}

// TestRoundRobinSharesAMissingBackendsPart: the successor of an ejected backend
// does not get its connections on top.
func TestRoundRobinSharesAMissingBackendsPart(t *testing.T) {
	l := listener(RoundRobin, 1, 1, 1, 1)
	l.Backends[1].State.out.Store(1000)
	var count [4]int
	for range 300 {
		count[pick(l, 1, client(0))]++
	}
	if count != [4]int{100, 0, 100, 100} {
		t.Errorf("shares %v", count)
	}
}

func TestReduceWeights(t *testing.T) {
	for _, tt := range []struct{ in, want []int }{
		{[]int{1, 1}, []int{1, 1}},
		{[]int{10, 20, 30}, []int{1, 2, 3}},
		{[]int{7}, []int{1}},
		{[]int{1, 65535}, []int{1, 1023}},
		{[]int{1000, 999}, []int{512, 511}},
	} {
		got := slices.Clone(tt.in)
		reduce(got)
		if !slices.Equal(got, tt.want) {
			t.Errorf("reduce(%v) = %v, want %v", tt.in, got, tt.want)
		}
	}
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 3))
		w := make([]int, 1+r.IntN(1500))
		for i := range w {
			w[i] = 1 + r.IntN(1<<r.IntN(17))
		}
		got := slices.Clone(w)
		sum := reduce(got)
		total := 0
		for i, g := range got {
			total += g
			if g < 1 {
				t.Fatalf("seed %d: weight %d became %d", seed, w[i], g)
			}
		}
		if total != sum || sum > max(maxPeriod, len(w)) {
			t.Fatalf("seed %d: %d weights sum to %d, said %d", seed, len(w), total, sum)
		}
	}
}

// TestSmoothKeepsEveryShare: in any window of a round a backend is within one
// round trip of its due share.
func TestSmoothKeepsEveryShare(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 4))
		w := make([]int, 2+r.IntN(10))
		for i := range w {
			w[i] = 1 + r.IntN(50)
		}
		slots := smooth(w)
		got := make([]int, len(w))
		for n, s := range slots {
			got[s]++
			for i := range w {
				due := float64(n+1) * float64(w[i]) / float64(len(slots))
				if math.Abs(float64(got[i])-due) > float64(len(w)) {
					t.Fatalf("seed %d: after %d slots backend %d had %d, due %.1f", seed, n+1, i, got[i], due)
				}
			}
		}
		if !slices.Equal(got, w) {
			t.Fatalf("seed %d: %v became %v", seed, w, got)
		}
	}
}

// TestLeastConnSplitsHeldConnections: 10 held connections over two backends
// split 5/5.
func TestLeastConnSplitsHeldConnections(t *testing.T) {
	l := listener(LeastConn, 1, 1)
	for range 10 {
		l.Backends[pick(l, 1, client(0))].State.Acquire()
	}
	for i, b := range l.Backends {
		if n := b.State.Active.Load(); n != 5 {
			t.Errorf("backend %d holds %d", i, n)
		}
	}
}

// TestLeastConnAvoidsTheHolder: with one held on A, ten sequential ones all go
// to B, across table swaps.
func TestLeastConnAvoidsTheHolder(t *testing.T) {
	tab := NewTable(1, []*Listener{{Addr: addrA, Strategy: LeastConn, Backends: backends(1, 1)}}, nil, nil)
	tab.Listeners[0].Backends[0].State.Acquire()
	for gen := range uint64(10) {
		l := tab.Listeners[0]
		i := pick(l, 1, client(0))
		if i != 1 {
			t.Fatalf("connection %d went to the holder", gen)
		}
		l.Backends[i].State.Acquire()
		l.Backends[i].State.Release()
		tab = NewTable(gen+2, []*Listener{{Addr: addrA, Strategy: LeastConn, Backends: backends(1, 1), MaxConnections: int(gen)}}, nil, tab)
	}
}

func TestLeastConnRotatesTies(t *testing.T) {
	l := listener(LeastConn, 1, 1, 1)
	var count [3]int
	for range 30 {
		count[pick(l, 1, client(0))]++
	}
	if count != [3]int{10, 10, 10} {
		t.Errorf("idle backends got %v", count)
	}
}

func TestLeastConnHonoursWeights(t *testing.T) {
	l := listener(LeastConn, 1, 3)
	for range 40 {
		l.Backends[pick(l, 1, client(0))].State.Acquire()
	}
	if a, b := l.Backends[0].State.Active.Load(), l.Backends[1].State.Active.Load(); a != 10 || b != 30 {
		t.Errorf("weights 1:3 hold %d and %d", a, b)
	}
}

func TestRandomTakesTheLessLoaded(t *testing.T) {
	l := listener(Random, 1, 1)
	l.Backends[0].State.Acquire()
	for range 50 {
		if pick(l, 1, client(0)) != 1 {
			t.Fatal("of two choices the more loaded was taken")
		}
	}
}

func TestRandomIsFair(t *testing.T) {
	const n = 100_000
	l := listener(Random, 1, 2, 5)
	var count [3]int
	for range n {
		i := pick(l, 1, client(0))
		count[i]++
		l.Backends[i].State.Acquire() // held: the counts pull towards the weights
	}
	for i, share := range []float64{1. / 8, 2. / 8, 5. / 8} {
		if got := float64(count[i]) / n; math.Abs(got-share) > 0.01 {
			t.Errorf("backend %d got %.3f, want %.3f", i, got, share)
		}
	}
}

func TestSourceHashKeepsItsBackend(t *testing.T) {
	l := listener(SourceHash, equal(7)...)
	again := listener(SourceHash, equal(7)...)
	for i := range 1000 {
		c := client(i)
		want := pick(l, 1, c)
		mapped := netip.AddrFrom16(c.As16())
		if pick(l, 2, c) != want || pick(again, 1, c) != want || pick(l, 1, mapped) != want {
			t.Fatalf("client %v moved", c)
		}
	}
}

// TestSourceHashSpread: shares follow the weights closely in the table, and
// clients that differ in a few bits only are spread like random ones.
func TestSourceHashSpread(t *testing.T) {
	for _, w := range [][]int{equal(2), equal(10), equal(100), {1, 2, 3, 4}, {1, 1000}} {
		l := listener(SourceHash, w...)
		sum := 0
		for _, x := range w {
			sum += x
		}
		entries, clients := make([]int, len(w)), make([]int, len(w))
		for _, s := range l.slots {
			entries[s]++
		}
		const n = 1 << 17
		for i := range n {
			clients[pick(l, 1, client(i))]++
		}
		for i := range w {
			share := float64(w[i]) / float64(sum)
			if got := float64(entries[i]) / float64(len(l.slots)); math.Abs(got-share) > 0.02*share+2/float64(len(l.slots)) {
				t.Errorf("weights %v: backend %d owns %.4f of the table, want %.4f", w[:min(4, len(w))], i, got, share)
			}
			if got := float64(clients[i]) / n; math.Abs(got-share) > 0.1*share+0.002 {
				t.Errorf("weights %v: backend %d got %.4f of the clients, want %.4f", w[:min(4, len(w))], i, got, share)
			}
		}
	}
}

// TestSourceHashMovesLittle: a backend that is added takes its share and
// disturbs few others; one that leaves gives its share up.
func TestSourceHashMovesLittle(t *testing.T) {
	for _, n := range []int{1, 2, 4, 9, 15, 20, 50, 63} {
		before := NewTable(1, []*Listener{{Addr: addrA, Strategy: SourceHash, Backends: backends(equal(n)...)}}, nil, nil)
		after := NewTable(2, []*Listener{{Addr: addrA, Strategy: SourceHash, Backends: backends(equal(n + 1)...)}}, nil, before)
		const clients = 20_000
		moved, disturbed := 0, 0
		for i := range clients {
			var a, b Tried
			x := before.Listeners[0].Pick(1, client(i), &a)
			y := after.Listeners[0].Pick(1, client(i), &b)
			if x.Addr != y.Addr {
				moved++
				if y.Addr != after.Listeners[0].Backends[n].Addr {
					disturbed++
				}
			}
		}
		share := 1 / float64(n+1)
		got := float64(moved) / clients
		t.Logf("%d+1 backends: %.3f moved for a share of %.3f, %.3f between the old ones", n, got, share, float64(disturbed)/clients)
		if got > share+0.05 {
			t.Errorf("%d+1 backends: %.3f of the clients moved for a share of %.3f", n, got, share)
		}
	}
}

// TestSourceHashFallsToTheNext: only the clients of an ejected backend move,
// and not all to the same one.
func TestSourceHashFallsToTheNext(t *testing.T) {
	l := listener(SourceHash, equal(5)...)
	var owner [1000]int
	for i := range owner {
		owner[i] = pick(l, 1, client(i))
	}
	l.Backends[2].State.out.Store(1000)
	var heirs [5]int
	for i := range owner {
		switch got := pick(l, 1, client(i)); {
		case owner[i] != 2 && got != owner[i]:
			t.Fatalf("client %d moved from %d to %d", i, owner[i], got)
		case owner[i] == 2:
			heirs[got]++
		}
	}
	for i, n := range heirs {
		if (n == 0) != (i == 2) {
			t.Errorf("heirs of backend 2: %v", heirs)
			break
		}
	}
}

func TestMaglevSizes(t *testing.T) {
	for _, n := range []int{2, 16, 17, 64, 65, 256, 300, MaxBackends} {
		size := maglevSize(n)
		if !prime(size) || size < uint64(maglevShare*n) {
			t.Errorf("maglevSize(%d) = %d", n, size)
		}
	}
}

// A listener that waits for host names may have no backends: nobody is chosen,
// by no strategy, and what is known of the ones before does no harm.
func TestNoBackendToPick(t *testing.T) {
	client := netip.MustParseAddr("192.0.2.1")
	for _, s := range allStrategies {
		full := &Listener{Addr: addrA, Strategy: s, Backends: backends(3, 2, 1)}
		t1 := NewTable(1, []*Listener{full}, nil, nil)
		before := t1.Listeners[0]
		var tried Tried
		b := before.Pick(0, client, &tried)
		b.State.Acquire()
		for range 3 {
			before.ConnectFailed(b, &tried, syscall.ECONNREFUSED, 0, 3)
		}
		t2 := NewTable(2, []*Listener{{Addr: addrA, Strategy: s, Waiting: true}}, nil, t1)
		empty := t2.Listeners[0]
		tried.Follow(before, empty)
		if b := empty.Pick(0, client, &tried); b != nil || tried.Len() != 0 {
			t.Errorf("%v: picked %v, tried %d", s, b, tried.Len())
		}
		t3 := NewTable(3, []*Listener{{Addr: addrA, Strategy: s, Backends: backends(3, 2, 1)}}, nil, t2)
		if back := t3.Backend(addrA, b); back.State != b.State || t3.Listeners[0].Pick(0, client, new(Tried)) == nil {
			t.Errorf("%v: the backends that came back: %+v", s, back)
		}
	}
}
