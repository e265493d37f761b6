//go:build !race

package route

import (
	"syscall"
	"testing"
)

// TestNoAllocations: everything an event loop calls is free of allocations.
func TestNoAllocations(t *testing.T) {
	for _, s := range allStrategies {
		tab := NewTable(1, many(s, 100, 20), nil, nil)
		addr := tab.Listeners[50].Addr
		now := int64(1)
		got := testing.AllocsPerRun(1000, func() {
			l := tab.Lookup(addr)
			if !l.Allows(client(1)) || !l.Admit() {
				t.Fatal("not admitted")
			}
			var tried Tried
			for b := l.Pick(now, client(int(now)), &tried); b != nil; b = l.Pick(now, client(int(now)), &tried) {
				b.State.Acquire()
				switch now++; now % 4 {
				case 0:
					l.ConnectOK(b)
				case 1:
					l.ConnectAborted(b, &tried, now)
				default:
					l.ConnectFailed(b, &tried, syscall.ECONNREFUSED, now, 2)
				}
				b.State.Release()
				tab.Backend(addr, b)
			}
			l.State.Release()
		})
		if got != 0 {
			t.Errorf("%v: %v allocations per connection", s, got)
		}
	}
}
