package dataplane

// readyKey names a session that may be gone by the time it is looked up.
type readyKey struct {
	slot int32
	gen  uint32
}

// readyQueue is the sessions that wait for their turn, first come first served:
// a ring that grows and never shrinks.
type readyQueue struct {
	ring  []readyKey // a power of two long
	first uint32     // of the oldest, modulo the ring's length
	len   int
}

func (q *readyQueue) push(k readyKey) {
	if q.len == len(q.ring) {
		q.grow()
	}
	q.ring[(q.first+uint32(q.len))&uint32(len(q.ring)-1)] = k
	q.len++
}

// pop takes the oldest; the queue must not be empty.
func (q *readyQueue) pop() readyKey {
	k := q.ring[q.first]
	q.first = (q.first + 1) & uint32(len(q.ring)-1)
	q.len--
	return k
}

func (q *readyQueue) grow() {
	ring := make([]readyKey, max(64, 2*len(q.ring)))
	n := copy(ring, q.ring[q.first:])
	copy(ring[n:], q.ring[:q.first])
	q.ring, q.first = ring, 0
}
