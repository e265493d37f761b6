package publish

import (
	"net/netip"
	"slices"
	"time"

	"dill/controlplane/compile"
	"dill/controlplane/resolve"
)

// Wait is what a listener waits for.
type Wait struct {
	Hosts []string  // names without an answer yet, as they came; none = it does not wait
	Until time.Time // for the last of them, at most

	instances []string // whose names those are
}

func (w Wait) over() bool { return len(w.Hosts) == 0 }

// sinces tells since when host names have had no answer.
type sinces map[string]time.Time

// nameWait decides how long names are waited for. The resolver answers in time,
// with an error if it must; one that never answers is not waited for.
type nameWait struct {
	since, still sinces // as of the evaluation before, and of this one
	now          time.Time
	limit        time.Duration
}

// newNameWait waits as long as the resolver takes at most, or as a listener may
// linger, whose instances nobody reaches either.
func newNameWait(since sinces, linger time.Duration, now time.Time) *nameWait {
	return &nameWait{since: since, still: make(sinces), now: now, limit: max(linger, resolve.Timeout)}
}

// on returns what is still waited for of what has no answer.
func (n *nameWait) on(unanswered []compile.Unanswered) (w Wait) {
	for _, u := range unanswered {
		since, known := n.since[u.Host]
		if !known {
			since = n.now
		}
		n.still[u.Host] = since
		end := since.Add(n.limit)
		if !n.now.Before(end) {
			continue
		}
		if !slices.Contains(w.Hosts, u.Host) {
			w.Hosts = append(w.Hosts, u.Host)
		}
		w.instances = append(w.instances, u.Instance)
		if end.After(w.Until) {
			w.Until = end
		}
	}
	return w
}

// unanswered is what a compilation waits for, by listener.
func unanswered(r compile.Result) map[netip.AddrPort][]compile.Unanswered {
	by := make(map[netip.AddrPort][]compile.Unanswered, len(r.Pending))
	for _, l := range r.Pending {
		by[l.Addr] = l.Instances
	}
	return by
}
