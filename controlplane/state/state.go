package state

import (
	"fmt"
	"net/netip"
	"time"

	"dill/controlplane/source"
)

// State is what survives a restart.
type State struct {
	// Saved is when the routes were last known to be current: the time of the
	// last change, or of a clean stop.
	Saved time.Time

	// Sources has the last good services of each source, sorted by name.
	Sources []Source

	// Owners tells which service ("consul/web") owned which listener, so that
	// a restart does not move a contested port.
	Owners map[netip.AddrPort]string

	// Lingering has the listeners that stayed open though none of their
	// service's instances is passing, and the IDs of the instances that they
	// were tried on.
	Lingering map[netip.AddrPort][]string
}

// Source is the part of a State that one source reported.
type Source struct {
	Name     string           // source.Source.Name
	Scope    string           // that it looked at, "" = not known
	Since    time.Time        // when it was last current
	Services []source.Service // sorted by Name

	// Stale tells when those services were last current that could not be
	// read while the source as a whole could, zero = never.
	Stale map[string]time.Time
}

// Snapshot returns what the source reported as the snapshot of one that is not
// current: it adds routes, and never removes any.
func (s Source) Snapshot(now time.Time) source.Snapshot {
	age := max(now.Sub(s.Since), 0).Round(time.Second)
	return source.Snapshot{
		Source:     s.Name,
		Services:   s.Services,
		Err:        fmt.Errorf("from state file, %s old", age),
		StaleSince: s.Since,
	}
}
