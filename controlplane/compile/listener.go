package compile

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

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
	l.Backends = c.backends(cl)
	return l
}

// newest is the member whose listener options count: of several with the
// highest CreateIndex, the first.
func (cl *claim) newest() instance {
	best := cl.members[0]
	for _, in := range cl.members[1:] {
		if in.CreateIndex > best.CreateIndex {
			best = in
		}
	}
	return best
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

// candidate is a backend before those with one address are told apart.
type candidate struct {
	route.Backend
	createIndex uint64
}

// backends returns what is behind an awarded claim: the members to be served,
// sorted by address, one for each.
func (c *compiler) backends(cl *claim) []*route.Backend {
	found := c.candidates[:0]
	var room [8]netip.AddrPort // of most instances, and a proxy
	for _, in := range cl.members {
		refuse := func(why string) { cl.by.note(in.ID, cl.tag, reason("not served: %s", why)) }
		if !c.serves(in) {
			if c.AllowWarning && in.Health == source.Warning {
				refuse("its checks warn, and its weight for that is 0")
			}
			continue
		}
		addrs, why := c.targets(room[:0], in.Host, in.Port)
		if why != "" {
			refuse(why)
			continue
		}
		b := route.Backend{
			Instance:       in.ID,
			Weight:         cmp.Or(in.weight, clampWeight(in.Instance.Weight)),
			ConnectTimeout: in.connectTimeout,
			ProxyProtocol:  in.proxyProtocol,
		}
		dialled := addrs
		if p := in.proxy; p != nil {
			via, why := c.targets(nil, p.host, int(p.port))
			if why != "" {
				refuse("proxy: " + why)
				continue
			}
			b.Socks = &route.Socks{Addr: via[0], User: p.user, Password: p.password}
			dialled = via[:1]
		}
		if own, loop := c.loop(dialled); loop {
			refuse(reason("connections would reach dill itself (%s)", own))
			continue
		}
		for _, b.Addr = range addrs {
			found = append(found, candidate{b, in.CreateIndex})
		}
	}
	c.candidates = found
	slices.SortFunc(found, func(a, b candidate) int {
		if n := a.Addr.Compare(b.Addr); n != 0 {
			return n
		}
		// The newest registration of an address speaks for it.
		return cmp.Or(cmp.Compare(b.createIndex, a.createIndex), strings.Compare(a.Instance, b.Instance))
	})
	kept := make([]route.Backend, 0, len(found))
	for _, b := range found {
		if n := len(kept); n > 0 && kept[n-1].Addr == b.Addr {
			if kept[n-1].Instance != b.Instance {
				cl.by.note(b.Instance, cl.tag, reason("same address as %s, which is registered later", show(kept[n-1].Instance)))
			}
			continue
		}
		kept = append(kept, b.Backend)
	}
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

func (c *compiler) serves(in instance) bool {
	return in.Served(c.AllowWarning) || in.Health == source.Warning && c.AllowWarning && in.weight > 0
}

// clampWeight is a source's weight as a backend's; 0, not given, is 1.
func clampWeight(w int) int { return min(max(w, 1), maxWeight) }
