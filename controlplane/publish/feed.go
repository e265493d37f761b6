package publish

import (
	"cmp"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	"dill/controlplane/source"
	"dill/controlplane/state"
)

// feed is what the Publisher knows of one source.
type feed struct {
	name      string
	confirmer Confirmer // nil = cannot confirm
	epoch     int       // counts confirmers: answers of an earlier one do not count
	scope     string    // that the Source looks at, see Origin
	maxStale  time.Duration

	in          source.Snapshot      // newest
	services    []source.Service     // last good: what is compiled
	missing     map[instance]settled // absent from believed in, still in services
	settling    int                  // how many of those wait for their time
	stale       staleness            // services that cannot be read
	restated    bool                 // other ones than in the last state that was saved
	expired     map[string]bool      // services that were given up for their age
	foreign     map[instance]string  // those of services that are of another scope, and of which
	troubled    bool                 // had an error since it was last believed
	restored    bool                 // is what another Source read, until it is believed
	settleUntil time.Time            // absences first seen before this settle, see due
	current     time.Time            // when it was last believed

	// The mass-removal guard's part.
	held    []netip.AddrPort // listeners it keeps open against the snapshot, sorted; none = not held
	proof   *source.Snapshot // a consistent read, for one evaluation
	asking  bool             // Confirm is running
	retryAt time.Time        // next Confirm, zero = now
	fails   int              // Confirms in a row that did not settle it
}

// firstReading is how long after it a source's first reading may be evaluated.
const firstReading = time.Second

// restore makes the feed what it was in a former life, as of s.Since.
func (f *feed) restore(s state.Source, now time.Time) {
	// Known as if it had been evaluated: the source's first word, that its
	// server is not there, may come before the first evaluation.
	f.in, f.services, f.current, f.restored = s.Snapshot(now), s.Services, s.Since, true
	f.stale = make(staleness, len(s.Stale))
	for name, since := range s.Stale {
		f.stale[name] = source.Stale{Service: name, Err: errRestored, Since: since}
	}
	if s.Scope != "" && s.Scope != f.scope {
		f.estrange(s.Scope)
	}
}

// errRestored is why a service is stale that was so in a former life already.
var errRestored = errors.New("from state file")

// replace takes note that from now on another Source tells the feed what it
// sees of this scope.
func (f *feed) replace(c Confirmer, scope string, now time.Time) {
	f.confirmer, f.epoch = c, f.epoch+1
	switch {
	case f.current.IsZero(): // nothing was lost yet
	case f.believed():
		f.current, f.restored = now, true
	default:
		f.current, f.restored = f.since(), true
	}
	if was := f.scope; was != scope {
		f.scope = scope
		f.estrange(was)
	}
}

// estrange makes all that is known that of the scope was: it goes once the
// present one was read, whatever could not be read of that. What came from the
// present one earlier is inherited.
func (f *feed) estrange(was string) {
	foreign := make(map[instance]string)
	for k := range instances(f.services) {
		of, other := f.foreign[k]
		if !other {
			of = was
		}
		if of != f.scope {
			foreign[k] = of
		}
	}
	f.foreign, f.stale = foreign, nil
	f.in = source.Snapshot{Source: f.name, Err: f.in.Err, StaleSince: f.in.StaleSince}
}

// instance names one instance within a source.
type instance struct{ service, id string }

// settled is when an absence is believed.
type settled = time.Time

// believed tells whether absence from the newest snapshot means something.
func (f *feed) believed() bool { return f.in.Synced && f.in.Err == nil }

// take makes s the newest snapshot. hadErr and hadSuspect tell of snapshots
// that s overtook in the mailbox. It returns which services are stale from now
// on that this Source never could read.
func (f *feed) take(s source.Snapshot, hadErr, hadSuspect bool, now time.Time, settle time.Duration) (inherited []source.Stale) {
	// Absence is doubtful only where something was present: a source that was
	// never believed, nor restored, has lost nothing.
	known := !f.current.IsZero()
	suspect := known && (s.Suspect || hadSuspect)
	// A document that was broken and is whole again was edited deliberately.
	// Behind a source that can confirm is a server, which may have been
	// replaced by an empty one meanwhile.
	if f.confirmer != nil && (s.Err != nil || hadErr) {
		f.troubled = true
	}
	if suspect && !f.in.Suspect {
		f.settleUntil = now.Add(settle)
	}
	inherited = f.note(s, f.since())
	f.in = s
	if !f.believed() {
		return inherited
	}
	// The window opens when the source is whole again, not when it begins to
	// answer: between the two nothing is removed anyway.
	switch {
	case !known:
	case f.troubled:
		f.settleUntil = now.Add(settle)
	case f.restored:
		// What its first reading lacks may have gone long ago or not be back
		// yet. What goes after that was there.
		f.settleUntil = now.Add(min(settle, firstReading))
	}
	f.troubled, f.restored, f.current = false, false, now
	return inherited
}

// plan is what a feed would contribute, not yet committed.
type plan struct {
	services []source.Service
	missing  map[instance]settled
	settling int             // how many of missing wait for their time
	expired  map[string]bool // services that are too old to be served
	due      time.Time       // the next time at which that changes, zero = none
}

// plan works out the feed's services now. With hold set nothing is removed
// except what the proof, if there is one, lacks as well.
func (f *feed) plan(now time.Time, settle time.Duration, hold bool) plan {
	fresh := f.due(now, settle)
	if f.believed() && !hold && len(f.missing) == 0 && len(f.stale) == 0 && fresh.IsZero() {
		return plan{services: f.in.Services} // the common case: nothing to keep
	}
	p := plan{missing: make(map[instance]settled)}
	var seen map[instance]bool
	if hold && f.proof != nil {
		seen = instances(f.proof.Services)
	}
	p.services = merge(f.services, f.present(&p, now), func(service, id string) bool {
		k := instance{service, id}
		switch {
		case f.tooOld(&p, service, true, now):
			return false
		case !f.believed(), f.inherits(k):
			return true // and the clock starts anew once it can be read
		}
		due, known := f.missing[k]
		if !known {
			due = fresh
		}
		kept := hold && (f.proof == nil || seen[k] || f.unproven(service))
		if now.Before(due) {
			p.due = earliest(p.due, due)
			p.settling++
			kept = true
		}
		if kept {
			p.missing[k] = due // it does not settle twice
		}
		return kept
	})
	return p
}

func (f *feed) isForeign(k instance) bool {
	_, foreign := f.foreign[k]
	return foreign
}

// forgetForeign forgets of the instances of another scope those that are gone,
// or turned out to be of the present one as well.
func (f *feed) forgetForeign() {
	if len(f.foreign) == 0 {
		return
	}
	left, here := instances(f.services), instances(f.in.Services)
	maps.DeleteFunc(f.foreign, func(k instance, _ string) bool { return !left[k] || here[k] })
}

// due is when an absence first seen now is believed, zero = at once.
func (f *feed) due(now time.Time, settle time.Duration) time.Time {
	last := f.settleUntil.Add(settle)
	switch {
	case f.in.Suspect || now.Before(f.settleUntil):
		return now.Add(settle)
	case f.settling > 0 && now.Before(last):
		// The leftovers of doubtful times would make a listener look alive
		// to the guard that has just lost its last real instance.
		return last
	}
	return time.Time{}
}

// merge returns in, together with those instances of have that in lacks and
// keep wants. Both are sorted by name and their instances by ID, and so is the
// result; neither is modified.
func merge(have, in []source.Service, keep func(service, id string) bool) []source.Service {
	out := make([]source.Service, 0, max(len(have), len(in)))
	for len(have) > 0 || len(in) > 0 {
		switch {
		case len(have) == 0 || len(in) > 0 && in[0].Name < have[0].Name:
			out = append(out, in[0])
			in = in[1:]
		case len(in) == 0 || have[0].Name < in[0].Name:
			kept := mergeInstances(have[0].Name, have[0].Instances, nil, keep)
			if len(kept) > 0 {
				s := have[0]
				s.Instances = kept
				out = append(out, s)
			}
			have = have[1:]
		default:
			// Its CreateIndex stays: what is kept may be of another history.
			s := in[0]
			s.Instances = mergeInstances(s.Name, have[0].Instances, s.Instances, keep)
			out = append(out, s)
			have, in = have[1:], in[1:]
		}
	}
	return out
}

// mergeInstances is merge within one service. Without anything kept it returns
// in itself.
func mergeInstances(service string, have, in []source.Instance, keep func(service, id string) bool) []source.Instance {
	if source.SameMemory(have, in) {
		return in
	}
	var kept []source.Instance
	for _, h := range have {
		_, found := slices.BinarySearchFunc(in, h.ID, func(i source.Instance, id string) int { return cmp.Compare(i.ID, id) })
		if !found && keep(service, h.ID) {
			kept = append(kept, h.Keep())
		}
	}
	if len(kept) == 0 {
		return in
	}
	kept = append(kept, in...)
	slices.SortFunc(kept, func(a, b source.Instance) int { return cmp.Compare(a.ID, b.ID) })
	return kept
}

// instances is the set of all instances of services.
func instances(services []source.Service) map[instance]bool {
	set := make(map[instance]bool, len(services))
	for _, s := range services {
		for _, i := range s.Instances {
			set[instance{s.Name, i.ID}] = true
		}
	}
	return set
}

// sameServices tells whether a and b are equal in every field.
func sameServices(a, b []source.Service) bool { return slices.EqualFunc(a, b, source.Service.Equal) }

// earliest returns the earlier of two moments, where zero means never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
