package route

import "math/rand/v2"

// leastConn returns the usable backend with the fewest connections for its
// weight. Counts are of all loops together. Ties are taken in turn, so that
// loops that look at the same moment choose differently.
func (l *Listener) leastConn(now int64, tried *Tried) int {
	best, ties := -1, uint64(0)
	for i := range l.Backends {
		switch {
		case !l.usable(i, now, tried):
		case best < 0 || l.less(i, best):
			best, ties = i, 1
		case !l.less(best, i):
			ties++
		}
	}
	if ties < 2 {
		return best
	}
	// Counts may have moved since; best still is a fair choice then.
	turn := (l.State.cursor.Add(1) - 1) % ties
	for i := best; i < len(l.Backends); i++ {
		if !l.usable(i, now, tried) || l.less(best, i) {
			continue
		}
		if turn == 0 {
			return i
		}
		turn--
	}
	return best
}

// random draws two usable backends by weight and returns the less loaded.
func (l *Listener) random(now int64, tried *Tried) int {
	first := -1
	for range 4 {
		i := l.draw()
		if i == first || !l.usable(i, now, tried) {
			continue
		}
		if first < 0 {
			first = i
		} else {
			return l.lighter(first, i)
		}
	}
	// Few are usable, or one is much heavier than the rest: look at each.
	n := len(l.Backends)
	start := rand.IntN(n)
	for k := range n {
		i := (start + k) % n
		if i == first || !l.usable(i, now, tried) {
			continue
		}
		if first < 0 {
			first = i
		} else {
			return l.lighter(first, i)
		}
	}
	return first
}

// draw returns a backend's index with a probability in proportion to its
// weight.
func (l *Listener) draw() int {
	if l.slots == nil {
		return rand.IntN(len(l.Backends))
	}
	return int(l.slots[rand.IntN(len(l.slots))])
}

// lighter returns the less loaded of two, i on a tie.
func (l *Listener) lighter(i, j int) int {
	if l.less(j, i) {
		return j
	}
	return i
}
