package route

import "net/netip"

// MaxTries is how many backends one connection can try, the room in Tried.
const MaxTries = 16

// Tried is the backends of one Listener that a connection has been handed
// already. The zero value is empty. It is a plain value of 34 bytes, meant to
// live in the session; it means nothing to another *Listener, not even to the
// same address in another table.
type Tried struct {
	index [MaxTries]uint16
	n     uint8
}

// Len is the number of backends tried.
func (t *Tried) Len() int { return int(t.n) }

// Reset empties t.
func (t *Tried) Reset() { t.n = 0 }

func (t *Tried) add(i int) {
	t.index[t.n] = uint16(i)
	t.n++
}

func (t *Tried) has(i int) bool {
	for _, j := range t.index[:t.n] {
		if int(j) == i {
			return true
		}
	}
	return false
}

// Pick chooses the backend for a connection from client by l's strategy, and
// notes it in tried. It leaves out what tried holds and what is ejected at
// now, in monotonic nanoseconds; a backend whose ejection is over goes to one
// connection as its trial. When every backend that is left is ejected it
// returns one nevertheless: better a try than none. It returns nil when
// nothing is left, or after MaxTries.
//
// The caller brackets the connection with State.Acquire and State.Release, and
// reports its outcome with exactly one of ConnectOK, ConnectFailed and
// ConnectAborted.
func (l *Listener) Pick(now int64, client netip.Addr, tried *Tried) *Backend {
	if tried.n == MaxTries {
		return nil
	}
	// A second round is needed only when another loop claimed the trial of
	// the backend chosen here; claimed, it is no longer open.
	for range 3 {
		i := l.choose(now, client, tried)
		if i < 0 {
			break
		}
		if b := l.Backends[i]; b.State.claim(now) {
			tried.add(i)
			return b
		}
	}
	if i := l.lastResort(tried); i >= 0 {
		tried.add(i)
		return l.Backends[i]
	}
	return nil
}

// choose returns the index of a usable backend by strategy, -1 for none.
func (l *Listener) choose(now int64, client netip.Addr, tried *Tried) int {
	switch {
	case len(l.Backends) == 0:
		return -1
	case len(l.Backends) == 1:
		if l.usable(0, now, tried) {
			return 0
		}
		return -1
	}
	switch l.Strategy {
	case LeastConn:
		return l.leastConn(now, tried)
	case Random:
		return l.random(now, tried)
	case SourceHash:
		return l.sourceHash(now, client, tried)
	}
	return l.roundRobin(now, tried)
}

// usable reports whether backend i is neither tried nor ejected.
func (l *Listener) usable(i int, now int64, tried *Tried) bool {
	return l.Backends[i].State.open(now) && !tried.has(i)
}

// lastResort is the untried backend that is due back first, -1 for none.
func (l *Listener) lastResort(tried *Tried) int {
	first, due := -1, int64(0)
	for i, b := range l.Backends {
		if tried.has(i) {
			continue
		}
		if out := b.State.out.Load(); first < 0 || out < due {
			first, due = i, out
		}
	}
	return first
}

// less reports whether backend i carries less than j for its weight.
func (l *Listener) less(i, j int) bool {
	a, b := l.Backends[i], l.Backends[j]
	return a.State.Active.Load()*int64(b.Weight) < b.State.Active.Load()*int64(a.Weight)
}
