package route

// maxPeriod bounds a weighted schedule: 2 KiB a listener.
const maxPeriod = 1024

// newSlots precomputes what l's strategy looks up: the backend indices of one
// round of a schedule, or of a Maglev table. nil means all backends in order.
func newSlots(l *Listener) []uint16 {
	n := len(l.Backends)
	if n < 2 || l.Strategy == LeastConn {
		return nil
	}
	if l.Strategy == SourceHash {
		return maglev(l.Backends)
	}
	w := make([]int, n)
	for i, b := range l.Backends {
		w[i] = b.Weight
	}
	if reduce(w) == n {
		return nil
	}
	return smooth(w)
}

// roundRobin takes the next slot of the schedule. It steps over slots it
// cannot use by moving the shared cursor past them, so that the others take
// over a missing backend's share evenly.
func (l *Listener) roundRobin(now int64, tried *Tried) int {
	period := uint64(len(l.slots))
	if l.slots == nil {
		period = uint64(len(l.Backends))
	}
	at := (l.State.cursor.Add(1) - 1) % period
	for step := range period {
		i := int(at)
		if l.slots != nil {
			i = int(l.slots[at])
		}
		if l.usable(i, now, tried) {
			if step > 0 {
				l.State.cursor.Add(step)
			}
			return i
		}
		if at++; at == period {
			at = 0
		}
	}
	return -1
}

// smooth spreads one round over its slots: each slot goes to the backend that
// is furthest behind its share. Weights 5, 1, 1 give 0 0 1 0 2 0 0.
func smooth(weights []int) []uint16 {
	total := 0
	for _, w := range weights {
		total += w
	}
	credit := make([]int, len(weights))
	slots := make([]uint16, total)
	for s := range slots {
		most := 0
		for i, w := range weights {
			credit[i] += w
			if credit[i] > credit[most] {
				most = i
			}
		}
		credit[most] -= total
		slots[s] = uint16(most)
	}
	return slots
}

// reduce divides the weights, all ≥ 1, by their common divisor, and scales
// them so that their sum is at most maxPeriod while none falls below 1. It
// returns the sum; more than maxPeriod weights all become 1.
func reduce(weights []int) (sum int) {
	divisor, total := 0, 0
	for _, w := range weights {
		divisor = gcd(w, divisor)
		total += w
	}
	for i, w := range weights {
		w /= divisor
		if total/divisor > maxPeriod {
			w = max(1, int(float64(w)*maxPeriod/float64(total/divisor)))
		}
		weights[i] = w
		sum += w
	}
	// Those raised to 1 cost the heaviest a slot each.
	for sum > max(maxPeriod, len(weights)) {
		heaviest := 0
		for i, w := range weights {
			if w > weights[heaviest] {
				heaviest = i
			}
		}
		weights[heaviest]--
		sum--
	}
	return sum
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
