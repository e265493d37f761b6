package publish

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"dill/controlplane/compile"
	"dill/controlplane/source"
	"dill/dataplane/route"
)

// lingerPass decides what becomes of listeners that are claimed but have
// nothing to serve, since all of their instances are critical, or are reached
// by host names that have no answer yet.
type lingerPass struct {
	// last is what is served at an address, or was when dill ended; nil =
	// nothing.
	last  func(netip.AddrPort) *route.Listener
	until untils // listeners that linger already
	now   time.Time
	wait  time.Duration
	names *nameWait

	// hold names the moment before which a listener of this owner does not
	// go, however long it lingers; that may be forever.
	hold func(owner string) (until time.Time, forever bool)

	// presume compiles the listeners of these owners as if their critical
	// instances were passing: where they are registered now, with the tags that
	// they have now.
	presume func(owners []string) compile.Result
}

// untils tells until when listeners linger.
type untils map[netip.AddrPort]time.Time

// sameListeners tells whether the same listeners linger.
func sameListeners(a, b untils) bool {
	return maps.EqualFunc(a, b, func(_, _ time.Time) bool { return true })
}

// lingers is the outcome of a lingerPass.
type lingers struct {
	listeners []*route.Listener       // those to serve, by address, none without backends unless it waits
	until     untils                  // of them, those that linger
	waits     map[netip.AddrPort]Wait // of them, those that wait for host names
	due       time.Time               // next end of lingering or waiting, zero = none
}

// run fills the listeners without backends, for as long as they may linger,
// and drops the rest. Only a listener that is open lingers; what never was
// served does not begin so. An open one that has nothing to serve before a name
// is looked up stays as it is until then, without backends.
func (p lingerPass) run(compiled compile.Result) lingers {
	out := lingers{listeners: make([]*route.Listener, 0, len(compiled.Listeners))}
	pending := unanswered(compiled)
	var empty []*route.Listener
	var owners []string
	for _, l := range compiled.Listeners {
		last := p.last(l.Addr)
		switch {
		case len(l.Backends) > 0:
			out.serve(l, l.Backends, p.names.on(pending[l.Addr]))
		case last == nil || last.Owner != l.Owner:
		case p.stays(&out, l):
			empty, owners = append(empty, l), append(owners, l.Owner)
		default:
			out.serve(l, nil, p.names.on(pending[l.Addr]))
		}
	}
	if len(empty) == 0 {
		return out
	}
	presumed := p.presume(owners)
	registered := make(map[netip.AddrPort][]*route.Backend)
	for _, l := range presumed.Listeners {
		registered[l.Addr] = l.Backends
	}
	unknown := unanswered(presumed)
	for _, l := range empty {
		passing, all := p.names.on(pending[l.Addr]), p.names.on(unknown[l.Addr])
		set := lastSet(p.last(l.Addr), registered[l.Addr], passing, all)
		if len(set) == 0 && (all.over() || !passing.over()) {
			delete(out.until, l.Addr) // it is closed, or as good as served
		}
		out.serve(l, set, all)
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
// instances that are critical as yet. An instance whose name has no answer yet is
// registered nevertheless, and one that passes is waited for.
func lastSet(last *route.Listener, registered []*route.Backend, passing, all Wait) []*route.Backend {
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
	waits := !passing.over() || slices.ContainsFunc(all.instances, func(id string) bool { return served[id] })
	if len(set) == 0 && !waits {
		return registered
	}
	return set
}

// serve serves l with these backends, or with none if it waits for some.
func (out *lingers) serve(l *route.Listener, backends []*route.Backend, w Wait) {
	if len(backends) == 0 && w.over() {
		return
	}
	if len(l.Backends) != len(backends) || !w.over() {
		filled := *l
		filled.Backends, filled.Waiting = backends, !w.over()
		l = &filled
	}
	out.listeners = append(out.listeners, l)
	if w.over() {
		return
	}
	if out.waits == nil {
		out.waits = make(map[netip.AddrPort]Wait)
	}
	out.waits[l.Addr] = w
	out.due = earliest(out.due, w.Until)
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
