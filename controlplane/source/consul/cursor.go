package consul

// cursor is a place in Consul's history. The zero value is nowhere.
type cursor struct {
	wait uint64 // index to wait from, 0 = ask without waiting
	seen uint64 // newest index
}

// advance takes the index of an answer. It reports whether history went back,
// as it does when a server is restored from a snapshot, is a new one, or lags
// behind the one that answered before; the next query then does not wait.
func (c *cursor) advance(index uint64) (back bool) {
	index = max(index, 1) // waiting from 0 would not wait
	back = index < c.seen
	c.wait, c.seen = index, index
	if back {
		c.wait = 0
	}
	return back
}

// forget makes the next query answer at once.
func (c *cursor) forget() { c.wait = 0 }
