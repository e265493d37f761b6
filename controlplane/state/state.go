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
}

// Source is the part of a State that one source reported.
type Source struct {
	Name     string           // source.Source.Name
	Since    time.Time        // when it was last current
	Services []source.Service // sorted by Name
}

// Snapshots returns the State as the snapshots of sources that are not
// current: they add routes, and never remove any.
func (s State) Snapshots(now time.Time) []source.Snapshot {
	var out []source.Snapshot
	for _, src := range s.Sources {
		age := max(now.Sub(src.Since), 0).Round(time.Second)
		out = append(out, source.Snapshot{
			Source:     src.Name,
			Services:   src.Services,
			Err:        fmt.Errorf("from state file, %s old", age),
			StaleSince: src.Since,
		})
	}
	return out
}
