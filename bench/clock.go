package main

import "time"

// clock estimates how long a run still takes: from how long each turn should
// take, corrected by how long the turns took so far.
type clock struct {
	planned time.Duration // of what is still to be done
	should  time.Duration // of the turns that are done
	did     time.Duration
}

// expect plans n turns.
func (c *clock) expect(turn time.Duration, n int) { c.planned += time.Duration(n) * turn }

// took says how long a turn took that should have taken so long.
func (c *clock) took(should, did time.Duration) {
	c.should += should
	c.did += did
}

// done takes n planned turns off, whether they were measured or not.
func (c *clock) done(turn time.Duration, n int) { c.planned -= time.Duration(n) * turn }

// left is the estimate. A scenario that is under way counts in full.
func (c *clock) left() time.Duration {
	factor := 1.0
	if c.should > 0 {
		factor = float64(c.did) / float64(c.should)
	}
	return time.Duration(factor * float64(max(0, c.planned))).Round(time.Second)
}
