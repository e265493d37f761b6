package publish

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"dill/controlplane/source"
	"dill/dataplane/route"
)

// lingerPass decides what becomes of listeners that are claimed but have
// nothing to serve, since all of their instances are critical.
type lingerPass struct {
	// last is what is served at an address, or was when dill ended; nil =
	// nothing.
	last  func(netip.AddrPort) *route.Listener
	until untils // listeners that linger already
	now   time.Time
	wait  time.Duration

	// hold names the moment before which a listener of this owner does not
	// go, however long it lingers; that may be forever.
	hold func(owner string) (until time.Time, forever bool)

	// presume compiles the listeners of these owners as if their critical
	// instances were passing: where they are registered now, with the tags that
	// they have now.
	presume func(owners []string) []*route.Listener
}

// untils tells until when listeners linger.
type untils map[netip.AddrPort]time.Time

// sameListeners tells whether the same listeners linger.
func sameListeners(a, b untils) bool {
	return maps.EqualFunc(a, b, func(_, _ time.Time) bool { return true })
}

// lingers is the outcome of a lingerPass.
type lingers struct {
	listeners []*route.Listener // those to serve, by address, none without backends
	until     untils            // of them, those that linger
	due       time.Time         // next end of lingering, zero = none
}

// run fills the listeners without backends, for as long as they may linger,
// and drops the rest. Only a listener that is open lingers; what never was
// served does not begin so.
func (p lingerPass) run(compiled []*route.Listener) lingers {
	out := lingers{listeners: make([]*route.Listener, 0, len(compiled))}
	var empty []*route.Listener
	var owners []string
	for _, l := range compiled {
		if len(l.Backends) > 0 {
			out.listeners = append(out.listeners, l)
		} else if last := p.last(l.Addr); last != nil && last.Owner == l.Owner && p.stays(&out, l) {
			empty, owners = append(empty, l), append(owners, l.Owner)
		}
	}
	if len(empty) == 0 {
		return out
	}
	presumed := make(map[netip.AddrPort][]*route.Backend)
	for _, l := range p.presume(owners) {
		presumed[l.Addr] = l.Backends
	}
	for _, l := range empty {
		if set := lastSet(p.last(l.Addr), presumed[l.Addr]); len(set) > 0 {
			out.fill(l, set)
		} else {
			delete(out.until, l.Addr)
		}
	}
	slices.SortFunc(out.listeners, func(a, b *route.Listener) int { return a.Addr.Compare(b.Addr) })
	return out
}

// stays tells whether l may linger (on), and notes until when.
func (p lingerPass) stays(out *lingers, l *route.Listener) bool {
	end, already := p.until[l.Addr]
	if !already {
		end = p.now.Add(p.wait)
	}
	notBefore, forever := p.hold(l.Owner)
	if notBefore.After(end) {
		end = notBefore
	}
	switch {
	case p.now.Before(end):
		out.due = earliest(out.due, end)
	case !forever:
		return false
	}
	if out.until == nil {
		out.until = make(untils)
	}
	out.until[l.Addr] = end
	return true
}

// lastSet picks those of the registered backends whose instances last served:
// they may have moved since, and where one of them was somebody else may be
// now. If none of them is registered any more, by instance or by address, all
// are tried: a deployment of a single instance replaces the whole set by
// instances that are critical as yet.
func lastSet(last *route.Listener, registered []*route.Backend) []*route.Backend {
	served := make(map[string]bool, len(last.Backends))
	for _, b := range last.Backends {
		served[b.Instance] = true
	}
	var set []*route.Backend
	for _, b := range registered {
		if served[b.Instance] || last.Backend(b) != nil {
			set = append(set, b)
		}
	}
	if len(set) == 0 {
		return registered
	}
	return set
}

// fill serves l with these backends.
func (out *lingers) fill(l *route.Listener, backends []*route.Backend) {
	filled := *l
	filled.Backends = backends
	out.listeners = append(out.listeners, &filled)
}

// presume returns snapshots in which the critical instances of these owners
// are passing. Nothing of in is changed.
func presume(in []source.Snapshot, owners []string) []source.Snapshot {
	out := slices.Clone(in)
	for i, s := range out {
		cloned := false
		for _, owner := range owners {
			from, name, _ := strings.Cut(owner, "/")
			j, ok := position(s.Services, name)
			if from != s.Source || !ok {
				continue
			}
			if !cloned {
				out[i].Services, cloned = slices.Clone(s.Services), true
			}
			instances := slices.Clone(s.Services[j].Instances)
			for k := range instances {
				if h := &instances[k].Health; *h != source.Maintenance {
					*h = source.Passing
				}
			}
			out[i].Services[j].Instances = instances
		}
	}
	return out
}
