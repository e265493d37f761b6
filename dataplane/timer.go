package dataplane

import "math/bits"

// timer is a deadline of one session or listener, embedded in it. A timer
// belongs to one wheel and is armed at most once; its zero value is unarmed.
type timer struct {
	next, prev *timer
	deadline   int64 // milliseconds on the loop's clock
	key        int32 // who it belongs to: a session's slot or keyListener minus a listener's index
	bucket     int16 // level<<6 | index, while armed
	armed      bool
}

const (
	wheelBits   = 6 // 64 buckets a level, so that a level's bitmap is one word
	wheelSize   = 1 << wheelBits
	wheelLevels = 5 // 64^5 ms: 12 days; a later deadline goes round once more
)

// wheel is a hierarchical timing wheel with millisecond ticks: arming and
// disarming cost O(1), and finding the next deadline a few bit scans. Level n
// holds deadlines 64^n to 64^(n+1) ticks ahead.
type wheel struct {
	now      int64 // the last tick that was expired
	occupied [wheelLevels]uint64
	buckets  [wheelLevels][wheelSize]*timer
}

// arm sets t to fire at deadline, moving it if it is armed already.
func (w *wheel) arm(t *timer, deadline int64) {
	if t.armed {
		if t.deadline == deadline {
			return
		}
		w.disarm(t)
	}
	t.deadline = deadline
	w.place(t)
}

// armBefore sets t to fire at deadline unless it fires earlier anyway.
func (w *wheel) armBefore(t *timer, deadline int64) {
	if !t.armed || t.deadline > deadline {
		w.arm(t, deadline)
	}
}

// disarm takes t out; an unarmed timer stays as it is.
func (w *wheel) disarm(t *timer) {
	if !t.armed {
		return
	}
	level, i := t.bucket>>wheelBits, t.bucket&(wheelSize-1)
	if t.prev != nil {
		t.prev.next = t.next
	} else {
		w.buckets[level][i] = t.next
		if t.next == nil {
			w.occupied[level] &^= 1 << i
		}
	}
	if t.next != nil {
		t.next.prev = t.prev
	}
	t.next, t.prev, t.armed = nil, nil, false
}

func (w *wheel) place(t *timer) {
	// A deadline that has passed fires with the next tick.
	at := max(t.deadline, w.now+1)
	// The level is where the highest bit stands in which at differs from now.
	level := (bits.Len64(uint64(at^w.now)) - 1) / wheelBits
	if level >= wheelLevels {
		// Beyond the end of this round of the top level: wait there, at most for
		// the last bucket that comes round, and be placed anew.
		level = wheelLevels - 1
		at = min(at, w.now+(wheelSize-1)<<(wheelBits*level))
	}
	i := int(at>>(wheelBits*level)) & (wheelSize - 1)
	t.bucket = int16(level<<wheelBits | i)
	t.prev, t.next, t.armed = nil, w.buckets[level][i], true
	if t.next != nil {
		t.next.prev = t
	}
	w.buckets[level][i] = t
	w.occupied[level] |= 1 << i
}

// next returns a tick at or before the earliest deadline at which the wheel
// wants to be advanced; false when nothing is armed.
func (w *wheel) next() (int64, bool) {
	for level := range wheelLevels {
		occ := w.occupied[level]
		if occ == 0 {
			continue
		}
		shift := wheelBits * level
		cur := uint(w.now>>shift) & (wheelSize - 1)
		// Rotate so that the bucket after the present one is bit 0.
		ahead := bits.TrailingZeros64(bits.RotateLeft64(occ, -int(cur+1))) + 1
		return (w.now>>shift + int64(ahead)) << shift, true
	}
	return 0, false
}

// expire advances the wheel to now and returns one timer that is due,
// disarmed; nil when none is left. Call it until it returns nil: fired timers
// may be armed again in between.
func (w *wheel) expire(now int64) *timer {
	for {
		// What is due sits in the level-0 bucket of the present tick.
		if t := w.buckets[0][w.now&(wheelSize-1)]; t != nil {
			w.disarm(t)
			return t
		}
		at, ok := w.next()
		if !ok || at > now {
			w.now = max(w.now, now)
			return nil
		}
		w.now = at
		w.cascade()
	}
}

// cascade spreads the higher buckets that the wheel has just reached.
func (w *wheel) cascade() {
	for level := 1; level < wheelLevels; level++ {
		shift := wheelBits * level
		if w.now&(1<<shift-1) != 0 {
			return
		}
		i := int(w.now>>shift) & (wheelSize - 1)
		t := w.buckets[level][i]
		w.buckets[level][i] = nil
		w.occupied[level] &^= 1 << i
		for t != nil {
			after := t.next
			if t.deadline <= w.now {
				w.due(t)
			} else {
				w.place(t)
			}
			t = after
		}
	}
}

// due puts t in the bucket of the present tick.
func (w *wheel) due(t *timer) {
	i := w.now & (wheelSize - 1)
	t.bucket = int16(i)
	t.prev, t.next, t.armed = nil, w.buckets[0][i], true
	if t.next != nil {
		t.next.prev = t
	}
	w.buckets[0][i] = t
	w.occupied[0] |= 1 << uint(i)
}
