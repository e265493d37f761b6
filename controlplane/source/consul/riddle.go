package consul

import (
	"slices"
	"time"
)

const (
	// riddleWait is how long a riddle waits for watches, the hint and fetches
	// to solve it. Where a sweep is many requests it waits longer, by requestWait
	// for each up to riddleMost, so that what has checks causes none.
	riddleWait  = 50 * time.Millisecond
	requestWait = 5 * time.Millisecond
	riddleMost  = 500 * time.Millisecond

	// sweepRest and requestRest, for each request of a sweep, are the least
	// pause after it.
	sweepRest   = 100 * time.Millisecond
	requestRest = 30 * time.Millisecond

	// riddlesKept is how many are told from each other.
	riddlesKept = 16
)

// riddle is what the catalog leaves open when its index moves, and the names
// and tags in it do not: an instance of some service came, changed or went. A
// service that is watched or has checks tells so itself, by an answer with that
// index. If none does, it is one without checks beyond the budget, or one that
// is none of dill's business; a sweep finds out which.
type riddle struct {
	indexes []uint64  // of the catalog
	since   time.Time // of the first, zero = none
	many    bool      // more than indexes has
}

func (r *riddle) add(index uint64, now time.Time) {
	if r.since.IsZero() {
		r.since = now
	}
	if len(r.indexes) == riddlesKept {
		r.many = true
		return
	}
	r.indexes = append(r.indexes, index)
}

// solve takes out what the services tell, and reports whether that was all.
func (r *riddle) solve(services map[string]*tracked) bool {
	if len(r.indexes) > 0 {
		told := make(map[uint64]bool, len(services))
		for _, t := range services {
			told[t.index] = true
		}
		r.indexes = slices.DeleteFunc(r.indexes, func(index uint64) bool { return told[index] })
	}
	if len(r.indexes) > 0 || r.many {
		return false
	}
	*r = riddle{}
	return true
}

// sweepPace spaces the sweeps that riddles cause. Those that find something
// follow each other as fast as they are cheap, and those in vain ever slower: a
// datacenter may be busy with services that are none of dill's.
type sweepPace struct {
	wait time.Duration // before a sweep
	gap  time.Duration // after the last one
}

// swept takes what a sweep cost, and how many services it found outdated.
func (p *sweepPace) swept(took time.Duration, requests, found int) {
	p.wait = min(time.Duration(requests)*requestWait, riddleMost)
	least := max(sweepRest, 4*took, time.Duration(requests)*requestRest)
	if found == 0 {
		least = max(least, 2*p.gap)
	}
	p.gap = min(least, sweepGap)
}

// failed takes that a sweep was not possible.
func (p *sweepPace) failed() { p.gap = sweepGap }

// due is when a riddle may cause a sweep after the last one.
func (p *sweepPace) due(r riddle, last time.Time) time.Time {
	return later(r.since.Add(max(riddleWait, p.wait)), last.Add(p.gap))
}
