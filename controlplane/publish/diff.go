package publish

import (
	"context"
	"log/slog"
	"slices"
	"strings"

	"dill/controlplane/resolve"
	"dill/dataplane/route"
)

// maxLines is how many changes of one publication get a log line each. More
// are only counted: two thousand lines at once help nobody.
const maxLines = 20

// diff is what changed from one table to the next. Its parts are sorted by
// listener address.
type diff struct {
	fresh   int               // listeners that are new: the data plane tells when they are open
	gone    int               // listeners that are gone
	changed []*route.Listener // options or owner, not backends
	added   []target
	removed []target
	changes []target // backends that stay, with other options

	refused []route.Refusal // new ones
	settled int             // refusals that are gone
}

// target is a backend and the listener it is behind.
type target struct {
	listener *route.Listener
	backend  *route.Backend
}

// compare lists what is visible of the way from old to next.
func compare(old, next *route.Table) diff {
	var d diff
	a, b := old.Listeners, next.Listeners
	for len(a) > 0 || len(b) > 0 {
		switch order(a, b, func(a, b *route.Listener) int { return a.Addr.Compare(b.Addr) }) {
		case -1:
			d.gone, a = d.gone+1, a[1:]
		case 1:
			d.fresh, b = d.fresh+1, b[1:]
		default:
			if a[0] != b[0] { // NewTable reuses what is as it was
				d.listener(a[0], b[0])
			}
			a, b = a[1:], b[1:]
		}
	}
	if slices.Equal(old.Refused, next.Refused) {
		return d // as mostly: there may be thousands
	}
	before := make(map[route.Refusal]bool, len(old.Refused))
	for _, r := range old.Refused {
		before[r] = true
	}
	for _, r := range next.Refused {
		if !before[r] {
			d.refused = append(d.refused, r)
		}
		delete(before, r)
	}
	d.settled = len(before)
	return d
}

// listener compares two generations of one listener.
func (d *diff) listener(old, next *route.Listener) {
	if !old.SameOptions(next) {
		d.changed = append(d.changed, next)
	}
	a, b := old.Backends, next.Backends
	for len(a) > 0 || len(b) > 0 {
		switch order(a, b, (*route.Backend).CompareTarget) {
		case -1:
			d.removed, a = append(d.removed, target{next, a[0]}), a[1:]
		case 1:
			d.added, b = append(d.added, target{next, b[0]}), b[1:]
		default:
			if a[0] != b[0] && !a[0].Same(b[0]) {
				d.changes = append(d.changes, target{next, b[0]})
			}
			a, b = a[1:], b[1:]
		}
	}
}

// order tells which of two sorted lists has the next element: -1 the first, 1
// the second, 0 both. At least one is not empty.
func order[E any](a, b []E, compare func(a, b E) int) int {
	switch {
	case len(a) == 0:
		return 1
	case len(b) == 0:
		return -1
	}
	return compare(a[0], b[0])
}

// lines is how many single changes d has to tell.
func (d *diff) lines() int {
	return len(d.changed) + len(d.added) + len(d.removed) + len(d.changes) + len(d.refused)
}

func (d *diff) empty() bool { return d.fresh+d.gone+d.lines()+d.settled == 0 }

// log writes one line for the generation and one a change, or a summary when
// there are too many. That a port is open or closed is not known here.
func (d *diff) log(log *slog.Logger, t *route.Table) {
	log.Info("table published", keyGeneration, t.Generation, keyListeners, len(t.Listeners),
		keyNew, d.fresh, keyGone, d.gone, keyChanged, len(d.changed)+len(d.changes),
		keyAdded, len(d.added), keyRemoved, len(d.removed), keyRefused, len(t.Refused))
	if d.lines() > maxLines {
		d.summary(log)
		return
	}
	for _, l := range d.changed {
		log.Info("listener changed", keyListener, l.Addr, keyOwner, l.Owner, keyWaiting, l.Waiting)
	}
	for _, part := range []struct {
		phrase  string
		targets []target
	}{{"backend added", d.added}, {"backend removed", d.removed}, {"backend changed", d.changes}} {
		for _, t := range part.targets {
			log.Info(part.phrase, keyListener, t.listener.Addr, keyBackend, t.backend.Target(), keyInstance, t.backend.Instance)
		}
	}
	for _, r := range d.refused {
		level := slog.LevelWarn
		if strings.Contains(r.Reason, resolve.ErrPending.Error()) {
			level = slog.LevelDebug // the answer is a moment away
		}
		log.Log(context.Background(), level, "claim refused", keyOwner, r.Service, keyInstance, r.Instance, keyClaim, r.Claim, keyReason, r.Reason)
	}
}

// summary names one of the refusals; the rest is in the counts.
func (d *diff) summary(log *slog.Logger) {
	if n := len(d.refused); n > 0 {
		r := d.refused[0]
		log.Warn("claims refused", keyRefused, n, keyOwner, r.Service, keyClaim, r.Claim, keyReason, r.Reason)
	}
}
