package compile

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"dill/controlplane/resolve"
	"dill/controlplane/source"
	"dill/dataplane/route"
)

// listener builds the listener of an awarded claim.
func (c *compiler) listener(cl *claim) *route.Listener {
	newest := cl.newest()
	l := &route.Listener{
		Addr:           cl.addr,
		Owner:          cl.by.owner,
		Strategy:       newest.strategy,
		MaxConnections: newest.maxConnections,
		IdleTimeout:    newest.idleTimeout,
		DrainTimeout:   newest.drain,
		Allow:          cl.allow(),
	}
	cl.disagreements(newest)
	cl.pending = nil // handed out
	l.Backends = c.backends(cl)
	cl.idle = ""
	if len(l.Backends) == 0 {
		cl.idle = c.idle(cl)
	}
	return l
}

// newest is the member whose listener options count: of several that were
// registered last, the first.
func (cl *claim) newest() instance {
	best := cl.members[0]
	for _, in := range cl.members[1:] {
		if in.age().compare(best.age()) < 0 {
			best = in
		}
	}
	return best
}

// age is when an instance was registered, as far as that can be compared.
type age struct {
	kept        bool
	createIndex uint64
}

func (in instance) age() age { return age{in.Kept, in.CreateIndex} }

// compare orders the newest first.
func (a age) compare(b age) int {
	return cmp.Or(last(a.kept, b.kept), cmp.Compare(b.createIndex, a.createIndex))
}

// disagreements notes the listener options that some member gives otherwise
// than the newest one.
func (cl *claim) disagreements(newest instance) {
	differ := func(key string, same func(a, b *listenerOptions) bool) {
		for _, in := range cl.members {
			if in.request != newest.request && !same(&in.listenerOptions, &newest.listenerOptions) {
				cl.by.note("", key, reason("the instances disagree; %s, registered last, decides", show(newest.ID)))
				return
			}
		}
	}
	differ(keyStrategy, func(a, b *listenerOptions) bool { return a.strategy == b.strategy })
	differ(keyMaxConnections, func(a, b *listenerOptions) bool { return a.maxConnections == b.maxConnections })
	differ(keyIdleTimeout, func(a, b *listenerOptions) bool { return a.idleTimeout == b.idleTimeout })
	differ(keyDrain, func(a, b *listenerOptions) bool { return a.drain == b.drain })
}

// allow is what all members admit.
func (cl *claim) allow() []netip.Prefix {
	all := cl.firstRanges(cl.members[0].allow)
	differ := false
	for i, in := range cl.members[1:] {
		if in.request == cl.members[i].request {
			continue
		}
		differ = differ || !slices.Equal(all, in.allow)
		all = cl.firstRanges(intersect(all, in.allow))
	}
	switch {
	case !differ:
	case len(all) == 0:
		cl.by.note("", keyAllow, "the instances disagree and have no client in common; nobody is admitted")
	default:
		cl.by.note("", keyAllow, "the instances disagree; admitted is who all of them allow")
	}
	return slices.Clone(all)
}

// firstRanges cuts ranges to maxAllow, and says so.
func (cl *claim) firstRanges(ranges []netip.Prefix) []netip.Prefix {
	if len(ranges) <= maxAllow {
		return ranges
	}
	cl.by.note("", keyAllow, reason("more than %d address ranges; the rest is not admitted", maxAllow))
	return ranges[:maxAllow]
}

// candidate is a backend before those with one target are told apart.
type candidate struct {
	route.Backend
	age
}

// backends returns what is behind an awarded claim: the members to be served,
// sorted by target, one for each.
func (c *compiler) backends(cl *claim) []*route.Backend {
	found := c.candidates[:0]
	var room [8]netip.AddrPort // of most instances
	for _, in := range cl.members {
		refuse := func(why string) { cl.by.note(in.ID, cl.tag, reason("not served: %s", why)) }
		if in.unusable {
			continue // said already
		}
		if !c.serves(in) {
			if c.AllowWarning && in.Health == source.Warning {
				refuse("its checks warn, and its weight for that is 0")
			}
			continue
		}
		c.pending = ""
		b, addrs, why := c.backend(cl, in, room[:0])
		if c.pending != "" {
			cl.pending = append(cl.pending, Unanswered{in.ID, c.pending})
		}
		if why != "" {
			refuse(why)
			continue
		}
		for _, b.Addr = range addrs {
			found = append(found, candidate{b, in.age()})
		}
	}
	c.candidates = found
	kept := cl.distinct(found)
	if len(kept) > route.MaxBackends {
		cl.refuse(reason("%d addresses, the first %d are served", len(kept), route.MaxBackends))
		kept = kept[:route.MaxBackends]
	}
	backends := make([]*route.Backend, len(kept))
	for i := range kept {
		backends[i] = &kept[i]
	}
	return backends
}

// backend is what stands for a member of cl, once for each of the addresses that
// are appended to room, or why nothing does.
func (c *compiler) backend(cl *claim, in instance, room []netip.AddrPort) (b route.Backend, addrs []netip.AddrPort, why string) {
	b = route.Backend{
		Instance:       in.ID,
		Weight:         cmp.Or(in.weight, clampWeight(in.Instance.Weight)),
		ConnectTimeout: in.connectTimeout,
		ProxyProtocol:  in.proxyProtocol,
	}
	var dialled []netip.AddrPort
	switch p := in.proxy; {
	case p == nil:
		addrs, why = c.targets(room, in.Host, in.Port)
		dialled = addrs
	case resolve.ValidName(in.Host):
		// The proxy looks the name up: where it stands, it may be another host, or
		// the only one that knows.
		b.Host = in.Host
		addrs, why = append(room, netip.AddrPortFrom(netip.Addr{}, uint16(in.Port))), badPort(in.Port)
	default:
		addrs, why = c.targets(room, in.Host, in.Port)
	}
	if why != "" {
		return b, nil, why
	}
	if p := in.proxy; p != nil {
		if dialled, why = c.targets(nil, p.host, int(p.port)); why != "" {
			return b, nil, "proxy: " + why
		}
		dialled = dialled[:1]
		b.Socks = &route.Socks{Addr: dialled[0], User: p.user, Password: p.password}
	}
	if own, loop := c.loop(cl, dialled); loop {
		return b, nil, reason("connections would reach dill itself (%s)", own)
	}
	return b, addrs, ""
}

// distinct sorts what was found by target and keeps one of each, that of the
// newest registration. Where a target is meant to be there several times, each
// time is a share: within one registration, and in a document, which is read as
// a whole. Anywhere else an older one was forgotten.
func (cl *claim) distinct(found []candidate) []route.Backend {
	slices.SortFunc(found, func(a, b candidate) int {
		if n := a.CompareTarget(&b.Backend); n != 0 {
			return n
		}
		return cmp.Or(a.age.compare(b.age), strings.Compare(a.Instance, b.Instance))
	})
	kept := make([]route.Backend, 0, len(found))
	var speaker candidate // for the last of kept
	for _, b := range found {
		n, meant := len(kept), speaker.age == b.age || cl.by.document
		switch {
		case n == 0 || kept[n-1].CompareTarget(&b.Backend) != 0:
			kept, speaker = append(kept, b.Backend), b
		case speaker.Instance == b.Instance:
		case meant && speaker.sameOptions(b):
			kept[n-1].Weight = clampWeight(kept[n-1].Weight + b.Weight)
		case meant:
			cl.by.note(b.Instance, cl.tag, reason("same address as %s, with other options, which are not in force", show(speaker.Instance)))
		default:
			cl.by.note(b.Instance, cl.tag, reason("same address as %s, which is registered later", show(speaker.Instance)))
		}
	}
	return kept
}

// sameOptions tells whether two candidates with one target differ in their
// weights at most.
func (a candidate) sameOptions(b candidate) bool {
	b.Instance, b.Weight = a.Instance, a.Weight
	return a.Same(&b.Backend)
}

func (c *compiler) serves(in instance) bool {
	return in.Served(c.AllowWarning) || in.Health == source.Warning && c.AllowWarning && in.weight > 0
}

// clampWeight is a source's weight as a backend's; 0, not given, is 1.
func clampWeight(w int) int { return min(max(w, 1), maxWeight) }
