package publish

import (
	"maps"
	"slices"
	"strings"
	"time"

	"dill/controlplane/source"
)

// staleness is which services of a feed cannot be read, by name. Each is as it
// was when it was last current, whoever read it then: a Source that was started
// since knows less of that than the feed does.
type staleness map[string]source.Stale

// note brings f.stale up to date with a snapshot and returns what is stale from
// now on of which only the feed knows how old it is. was is when the source was
// last current before.
func (f *feed) note(s source.Snapshot, was time.Time) (inherited []source.Stale) {
	if s.Err != nil {
		return nil // it says nothing of single services
	}
	next := make(staleness, len(s.Stale))
	if !s.Synced {
		maps.Copy(next, f.stale) // the rest was perhaps not asked for yet
	}
	for _, one := range s.Stale {
		if one.Since.IsZero() {
			old, already := f.stale[one.Service]
			if already {
				one.Since = old.Since
			} else if _, known := position(f.services, one.Service); known {
				one.Since = was
				inherited = append(inherited, one)
			}
		}
		next[one.Service] = one
	}
	sameAge := func(a, b source.Stale) bool { return a.Since.Equal(b.Since) }
	f.restated = f.restated || !maps.EqualFunc(f.stale, next, sameAge)
	f.stale = next
	return inherited
}

// noteInherited logs which services are kept that their source cannot read.
func (p *Publisher) noteInherited(name string, inherited []source.Stale) {
	if n := len(inherited); n > maxLines {
		p.log.Warn("services kept as they were last known", keySource, name, keyServices, n, keySince, inherited[0].Since, keyErr, inherited[0].Err)
		return
	}
	for _, one := range inherited {
		p.log.Warn("service kept as it was last known", keySource, name, keyService, one.Service, keySince, one.Since, keyErr, one.Err)
	}
}

// inherits tells whether an instance is to be kept that the newest snapshot
// lacks, because its service cannot be read.
func (f *feed) inherits(k instance) bool {
	_, stale := f.stale[k.service]
	return stale && !f.isForeign(k)
}

// proves tells whether what the newest snapshot says of a service is so now.
func (f *feed) proves(service string) bool {
	_, stale := f.stale[service]
	return f.believed() && !stale
}

// expires is when what is known of a service is too old to be served, zero =
// never. kept means that it is not in the newest snapshot.
func (f *feed) expires(service string, kept bool) time.Time {
	var since time.Time
	if one, stale := f.stale[service]; stale {
		since = one.Since
	} else if f.in.Err != nil || kept && !f.believed() {
		since = f.since()
	}
	if f.maxStale == 0 || since.IsZero() {
		return time.Time{}
	}
	return since.Add(f.maxStale)
}

// present returns what the newest snapshot has and is not too old to be
// served, and notes in p what is, and when more will be.
func (f *feed) present(p *plan, now time.Time) []source.Service {
	in := f.in.Services
	if f.maxStale == 0 || f.in.Err == nil && len(f.stale) == 0 {
		return in
	}
	return slices.DeleteFunc(slices.Clone(in), func(s source.Service) bool { return f.tooOld(p, s.Name, false, now) })
}

// tooOld tells whether what is known of a service is too old, and notes in p
// that it is, or when it will be.
func (f *feed) tooOld(p *plan, service string, kept bool, now time.Time) bool {
	end := f.expires(service, kept)
	switch {
	case end.IsZero():
		return false
	case now.Before(end):
		p.due = earliest(p.due, end)
		return false
	}
	if p.expired == nil {
		p.expired = make(map[string]bool)
	}
	p.expired[service] = true
	return true
}

// Known returns the last good services of a source, as of the last evaluation,
// for a Source that takes its place and looks at the same scope. It is nil for
// another scope. It may be called from any goroutine.
func (p *Publisher) Known(name, scope string) []source.Service {
	k := p.Status().known[name]
	if k.scope != scope {
		return nil
	}
	return k.services
}

// known is what Known knows of a source.
type known struct {
	scope    string
	services []source.Service
}

// known returns what a Source may inherit that looks at f's scope.
func (f *feed) known(now time.Time) known {
	if len(f.foreign) == 0 && f.maxStale == 0 {
		return known{f.scope, f.services}
	}
	var unused plan
	return known{f.scope, merge(f.services, nil, func(service, id string) bool {
		return !f.isForeign(instance{service, id}) && !f.tooOld(&unused, service, true, now)
	})}
}

// list returns the stale services by name.
func (s staleness) list() []source.Stale {
	return slices.SortedFunc(maps.Values(s), func(a, b source.Stale) int { return strings.Compare(a.Service, b.Service) })
}
