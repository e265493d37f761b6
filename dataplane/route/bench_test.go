package route

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"
)

func BenchmarkPick(b *testing.B) {
	for _, s := range allStrategies {
		for _, n := range []int{2, 10, 100} {
			for _, weights := range []string{"equal", "weighted"} {
				w := equal(n)
				if weights == "weighted" {
					for i := range w {
						w[i] += i % 7
					}
				}
				b.Run(fmt.Sprintf("%v/%d/%s", s, n, weights), func(b *testing.B) {
					l := listener(s, w...)
					b.ReportAllocs()
					for i := 0; b.Loop(); i++ {
						var tried Tried
						l.Pick(1, client(i), &tried)
					}
				})
			}
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	t := NewTable(1, many(RoundRobin, 2000, 10), nil, nil)
	addr := t.Listeners[777].Addr
	b.ReportAllocs()
	for b.Loop() {
		t.Lookup(addr)
	}
}

// many returns listeners with that many backends each.
func many(s Strategy, listeners, perListener int) []*Listener {
	ls := make([]*Listener, listeners)
	for i := range ls {
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(2000+i))
		ls[i] = &Listener{Addr: addr, Strategy: s, Backends: backends(equal(perListener)...)}
	}
	return ls
}

// BenchmarkNewTable is one publication of 2,000 listeners × 10 backends: the
// first, one where every listener is unchanged, and one where each has lost a
// backend. bytes/table is what the table holds in the end.
func BenchmarkNewTable(b *testing.B) {
	for _, s := range []Strategy{RoundRobin, SourceHash} {
		first := func() *Table { return NewTable(1, many(s, 2000, 10), nil, nil) }
		for _, bm := range []struct {
			name string
			prev *Table
			n    int
		}{{"first", nil, 10}, {"same", first(), 10}, {"changed", first(), 9}} {
			b.Run(fmt.Sprintf("%v/%s", s, bm.name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					b.StopTimer()
					ls := many(s, 2000, bm.n)
					b.StartTimer()
					NewTable(2, ls, nil, bm.prev)
				}
			})
		}
	}
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	t := NewTable(1, many(RoundRobin, 2000, 10), nil, nil)
	runtime.GC()
	runtime.ReadMemStats(&now)
	b.Logf("2,000 listeners × 10 backends hold %d KiB", (now.HeapAlloc-before.HeapAlloc)>>10)
	runtime.KeepAlive(t)
}
