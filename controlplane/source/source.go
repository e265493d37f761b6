// Package source defines what a route source tells the rest of the control
// plane: which services ask for a listener, and their instances. Sources speak
// one language – the dill tags – whatever their own format is, so that there
// is one grammar and one validator for all of them (package compile).
//
// A source never decides what is served. It reports what it sees, says how far
// that can be trusted, and keeps silent rather than guess.
package source

import (
	"context"
	"slices"
	"time"
)

// Source watches one place that services are announced in.
type Source interface {
	// Name is the short constant name of the source: "file", "consul",
	// "nomad" or "http". It is part of every service's identity.
	Name() string

	// Run watches until ctx is cancelled and hands every changed Snapshot
	// to sink. It survives every failure of the outside world by itself; the
	// error it returns is ctx's, or one that no retry can mend.
	Run(ctx context.Context, sink Sink) error
}

// Sink takes a source's newest Snapshot. The snapshot and everything it points
// to is immutable from then on. A Sink does not block and may be called from
// any goroutine, one call at a time per source.
type Sink func(Snapshot)

// Snapshot is all that one source knows at one moment.
type Snapshot struct {
	Source   string    // Source.Name of the sender
	Services []Service // sorted by Name; only those tagged for dill

	// Synced is false until everything was asked for once, and answered or
	// listed in Stale. An unsynced snapshot adds routes but never removes any.
	Synced bool

	// Suspect says that something happened after which absence proves
	// nothing: the index went back, the server was unreachable a moment ago,
	// the answer was filtered. Removals wait for settling (package publish).
	Suspect bool

	// Err is why the source is not current, nil when it is. Services then
	// holds the last good state, and StaleSince is when it was last current.
	Err        error
	StaleSince time.Time

	// Warning is what is wrong besides, and takes nothing from what the
	// snapshot is worth: a token file that is gone, while the token works.
	Warning error

	// Stale lists services that cannot be read while the source as a whole
	// can: others go on, and what of these is missing from Services proves
	// nothing. It is empty when Err is set.
	Stale []Stale
}

// Stale is a service whose last good state is not its newest.
type Stale struct {
	Service string
	Err     error     // why it cannot be read
	Since   time.Time // when this Source last read it, zero = never
}

// Heir is a Source that can begin with what another one knew of its services,
// before a reload or a restart.
type Heir interface {
	// Inherit makes these services, sorted by name, the last good state of a
	// source that was not run yet. Each of them is reported until it was read
	// or its absence proven. The source does not modify them.
	Inherit(services []Service)
}

// Service is one named service and every registered instance of it.
type Service struct {
	Name        string
	Instances   []Instance // sorted by ID; critical ones included
	CreateIndex uint64     // lowest of the instances'; breaks ownership ties
}

// Equal tells whether two services are equal in every field.
func (s Service) Equal(t Service) bool {
	return s.Name == t.Name && s.CreateIndex == t.CreateIndex && EqualInstances(s.Instances, t.Instances)
}

// EqualInstances tells whether two lists of instances are equal in every field.
func EqualInstances(a, b []Instance) bool {
	return SameMemory(a, b) || slices.EqualFunc(a, b, func(i, j Instance) bool {
		return i.ID == j.ID && i.Host == j.Host && i.Port == j.Port && i.Health == j.Health &&
			i.Weight == j.Weight && i.CreateIndex == j.CreateIndex && i.Kept == j.Kept &&
			slices.Equal(i.Tags, j.Tags) && slices.Equal(i.Faults, j.Faults)
	})
}

// SameMemory tells whether a and b are one slice: sources hand on what did not
// change.
func SameMemory(a, b []Instance) bool { return len(a) == len(b) && len(a) > 0 && &a[0] == &b[0] }

// Instance is one registered instance of a service.
type Instance struct {
	ID   string // unique within the source, e.g. "node/service-id"
	Host string // IP address, or a host name that package resolve looks up
	Port int    // 1..65535; anything else makes the instance unusable

	// Tags are the instance's dill tags as the user wrote them ("dill",
	// "dill.listener=local:5555", "dill.weight=3"), and those that were meant to
	// be some, see IsTag. They are foreign input.
	Tags []string

	// Faults are the mistakes that the source saw itself and that tags cannot
	// tell. Package compile shows them; the source does not log them.
	Faults []Fault

	Health      Health
	Weight      int    // of its present Health, from the source; 0 = not given, or NoTraffic
	CreateIndex uint64 // the newest instance's listener options win

	// Kept says that the newest reading lacks the instance, which is kept
	// because that proves nothing. Its CreateIndex may be of a history that
	// the others' are not of, so it is never compared with theirs.
	Kept bool
}

// Keep returns the instance marked as Kept.
func (i Instance) Keep() Instance {
	i.Kept = true
	return i
}

// NoTraffic is the Weight of an instance that its registration gives no share
// in its present Health.
const NoTraffic = -1

// Served tells whether the instance gets traffic as its registration stands,
// where warnings are admitted or not. An explicit weight in its tags goes above
// NoTraffic.
func (i Instance) Served(allowWarning bool) bool {
	return i.Health == Passing || i.Health == Warning && allowWarning && i.Weight != NoTraffic
}

// Fault is what a source could not read of an instance.
type Fault struct {
	Tag    string // the tag that is spoilt by it, "dill.weight"; "" = the instance is unusable
	Reason string // one line without secrets, and what would be accepted
}

// Health is the aggregated state of an instance's checks.
type Health uint8

const (
	Passing     Health = iota
	Warning            // served only if the source was told to admit it
	Critical           // registered, not served
	Maintenance        // an operator drains it: not served, at once
)

func (h Health) String() string {
	switch h {
	case Passing:
		return "passing"
	case Warning:
		return "warning"
	case Critical:
		return "critical"
	case Maintenance:
		return "maintenance"
	}
	return "unknown"
}
