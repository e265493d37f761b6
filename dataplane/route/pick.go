package route

import "net/netip"

// MaxTries is how many backends one connection can try, the room in Tried.
const MaxTries = 16

// Tried is the backends of one Listener that a connection has been handed
// already, and what the last of them was then. The zero value is empty. It is a
// plain value of 44 bytes, meant to live in the session; it means nothing to
// another *Listener, not even to the same address in another table, see Follow.
type Tried struct {
	index [MaxTries]uint16
	n     uint8
	last  attempt
}

// attempt is how a backend stood with its ejection when it was handed out. Its
// outcome counts only while that is still so.
type attempt struct {
	epoch uint32
	trial bool // this is the one connection that may end the ejection or prolong it
}

// Len is the number of backends tried.
func (t *Tried) Len() int { return int(t.n) }

// Reset empties t.
func (t *Tried) Reset() { t.n = 0 }

// Follow makes t, which is about from, say the same about to: the backends that
// both have stay tried. No attempt may be under way.
func (t *Tried) Follow(from, to *Listener) {
	old := *t
	t.Reset()
	for _, i := range old.index[:old.n] {
		if j, ok := to.find(from.Backends[i]); ok {
			t.add(j)
		}
	}
}

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
// ConnectAborted before it picks again.
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
		b := l.Backends[i]
		if a, ok := b.State.claim(now); ok {
			tried.add(i)
			tried.last = a
			return b
		}
	}
	if i := l.lastResort(tried); i >= 0 {
		b := l.Backends[i]
		tried.add(i)
		tried.last = attempt{epoch: b.State.epoch.Load()}
		return b
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
