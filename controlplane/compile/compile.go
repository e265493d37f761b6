package compile

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"dill/controlplane/source"
	"dill/dataplane/route"
)

// Options are what the configuration says about listeners.
type Options struct {
	Allowed          map[string]netip.Addr // what labels stand for; keys in lower case
	PortMin, PortMax int                   // inclusive

	// Reserved are addresses that dill itself listens on: Peek, admin. Nobody
	// can claim them or reach them through a listener. [::] stands for IPv4
	// as well here.
	Reserved []netip.AddrPort

	// LocalAddrs are this host's interface addresses. A backend at one of
	// them can be a listener of dill's on 0.0.0.0 or [::].
	LocalAddrs []netip.Addr

	AllowWarning bool // serve instances in state warning, too
}

// Input is what is to be compiled. Nothing in it is changed or retained.
type Input struct {
	Snapshots []source.Snapshot

	// Hosts resolves the host names of instances and proxies. It must not
	// block: an instance whose name has no answer yet is left out, with the
	// error as the reason. nil resolves nothing. IP addresses do not need it.
	Hosts func(host string) ([]netip.Addr, error)

	// Incumbents are the present owners ("consul/web") of listeners.
	Incumbents map[netip.AddrPort]string
}

// Result is what Compile found. The caller owns it.
type Result struct {
	// Listeners is sorted by address. A listener that is claimed but has no
	// instance to be served has no Backends: it is up to the caller how long
	// it lives on.
	Listeners []*route.Listener

	// Refused is sorted by service. All of its texts are safe to print.
	Refused []route.Refusal
}

// Compile works out which service gets which listener, and with what backends.
// See the package comment for the rules.
func Compile(opt Options, in Input) Result {
	c := &compiler{
		Options: opt,
		in:      in,
		labels:  strings.Join(slices.Sorted(maps.Keys(opt.Allowed)), ", "),
		served:  make(map[uint16][]netip.AddrPort),
	}
	for _, a := range opt.Reserved {
		c.reserved = append(c.reserved, unmap(a))
		if a.Addr() == netip.IPv6Unspecified() {
			c.reserved = append(c.reserved, netip.AddrPortFrom(netip.IPv4Unspecified(), a.Port()))
		}
	}
	for _, a := range c.reserved {
		c.served[a.Port()] = append(c.served[a.Port()], a)
	}
	services := c.services()
	var claims []*claim
	for _, s := range services {
		claims = append(claims, c.claims(s)...)
	}
	claims = c.award(claims)
	for _, cl := range claims {
		c.served[cl.addr.Port()] = append(c.served[cl.addr.Port()], cl.addr)
	}

	var r Result
	for _, cl := range claims {
		r.Listeners = append(r.Listeners, c.listener(cl))
	}
	for _, s := range services {
		r.Refused = append(r.Refused, s.refusals()...)
	}
	return r
}

// compiler is the state of one Compile.
type compiler struct {
	Options
	in       Input
	labels   string           // those allowed, for reasons
	reserved []netip.AddrPort // Options.Reserved, where [::] is only IPv6

	// served are the addresses that dill listens on, by port: reserved ones
	// from the start, listeners once they are awarded.
	served map[uint16][]netip.AddrPort
}

// service is one service of one source.
type service struct {
	owner       string // "consul/web", as it came
	from        int    // place of the source in sourceOrder
	createIndex uint64
	instances   []instance // sorted by ID
	notes       []note
}

// instance is one registered instance and what its tags ask for.
type instance struct {
	*source.Instance
	*request
}

// sourceOrder decides who gets a port that has no owner. Others come last.
var sourceOrder = []string{"file", "consul", "nomad", "http"}

// services lists the services of all snapshots, sorted by owner, with their
// instances' tags read.
func (c *compiler) services() []*service {
	var all []*service
	byOwner := make(map[string]*service)
	for i := range c.in.Snapshots {
		snapshot := &c.in.Snapshots[i]
		from := slices.Index(sourceOrder, snapshot.Source)
		if from < 0 {
			from = len(sourceOrder)
		}
		for j := range snapshot.Services {
			in := &snapshot.Services[j]
			owner := snapshot.Source + "/" + in.Name
			s := byOwner[owner]
			if s == nil {
				s = &service{owner: owner, from: from, createIndex: in.CreateIndex}
				byOwner[owner] = s
				all = append(all, s)
			}
			s.createIndex = min(s.createIndex, in.CreateIndex)
			s.instances = slices.Grow(s.instances, len(in.Instances))
			for k := range in.Instances {
				s.instances = append(s.instances, instance{Instance: &in.Instances[k]})
			}
		}
	}
	slices.SortFunc(all, func(a, b *service) int { return strings.Compare(a.owner, b.owner) })
	for _, s := range all {
		if !slices.IsSortedFunc(s.instances, compareInstance) {
			slices.SortFunc(s.instances, compareInstance)
		}
		if n := len(s.instances); n > route.MaxBackends {
			s.note("", "", reason("%d instances, the first %d are served", n, route.MaxBackends))
			s.instances = s.instances[:route.MaxBackends]
		}
		c.read(s)
	}
	return all
}

// compareInstance orders instances by ID. A source that repeats an ID still
// gets one result for any order.
func compareInstance(a, b instance) int {
	if n := strings.Compare(a.ID, b.ID); n != 0 {
		return n
	}
	return cmp.Or(cmp.Compare(a.CreateIndex, b.CreateIndex), strings.Compare(a.Host, b.Host),
		cmp.Compare(a.Port, b.Port), cmp.Compare(a.Health, b.Health), cmp.Compare(a.Weight, b.Weight),
		slices.Compare(a.Tags, b.Tags))
}

// read reads the tags of all instances of s.
func (c *compiler) read(s *service) {
	// Instances mostly have the same tags, or one of two sets during a rolling
	// change. More are remembered only so far that looking costs little.
	var seen [4]struct {
		tags []string
		*request
	}
	next := 0
	for i := range s.instances {
		in := &s.instances[i]
		for _, known := range seen {
			if known.request != nil && slices.Equal(known.tags, in.Tags) {
				in.request = known.request
				break
			}
		}
		if in.request == nil {
			in.request = c.request(in.Tags)
			seen[next].tags, seen[next].request = in.Tags, in.request
			next = (next + 1) % len(seen)
		}
		for _, f := range in.faults {
			s.note(in.ID, f.claim, f.reason)
		}
	}
}

// unmap turns ::ffff:192.0.2.1 into 192.0.2.1.
func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
