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

	// How many listeners one service and all together may have; 0 is no limit.
	// What is bound already stays.
	MaxPerService, MaxListeners int

	// Reserved are addresses that dill itself listens on: Peek, pprof. Nobody
	// can claim them or reach them through a listener. [::] stands for IPv4
	// as well here.
	Reserved []netip.AddrPort

	// Upstreams are where the sources are asked. Whoever is away there for a
	// moment finds the port free again: only a routing file, which is the
	// operator's, can claim it.
	Upstreams []Upstream

	// Local reports whether a connection to an address, which is neither
	// unspecified nor a loopback one, arrives at this host: at a listener of
	// dill's on 0.0.0.0 or [::], if it has one. It must not block; nil says no.
	// A Memo relies on its answers until Moved is called.
	Local func(netip.Addr) bool

	AllowWarning bool // serve instances in state warning, too
}

// Upstream is where a source is asked, and the setting that says so.
type Upstream struct {
	Setting, Host string
	Port          int
}

// Input is what is to be compiled. Nothing in it is changed.
type Input struct {
	Snapshots []source.Snapshot

	// Hosts resolves the host names of instances and proxies. It must not
	// block: an instance whose name has no answer yet, resolve.ErrPending, is
	// left out, with the error as the reason, and is in Result.Pending. nil resolves nothing. IP addresses do not need it.
	Hosts func(host string) ([]netip.Addr, error)

	// Incumbents are the present owners ("consul/web") of listeners.
	Incumbents map[netip.AddrPort]string

	// Bound are the addresses that dill listens on now, sorted.
	Bound []netip.AddrPort

	// InUse are the addresses, sorted, that dill has tried to listen on while
	// another program did. Where a backend of another service is registered at
	// that port, at whatever address of this host, they are taken to be its.
	InUse []netip.AddrPort

	// Reopening are the owners of listeners that dill had before it was started
	// again, and is about to bind: these claims are not refused for a backend
	// that is registered there.
	Reopening map[netip.AddrPort]string
}

// Result is what Compile found. The caller owns it.
type Result struct {
	// Listeners is sorted by address. A listener that is claimed but has no
	// instance to be served has no Backends: it is up to the caller how long
	// it lives on.
	Listeners []*route.Listener

	// Idle are those of Listeners that have no Backends because of their
	// instances' health, in that order.
	Idle []Idle

	// Pending are those of Listeners some of whose instances would be served
	// but for a host name that has no answer yet, in that order.
	Pending []Pending

	// Refused is sorted by service. All of its texts are safe to print.
	Refused []route.Refusal

	// InUse are those of Input.InUse, sorted, that claims are refused for. Since
	// nobody tries them any more, the next input has them from here.
	InUse []netip.AddrPort
}

// Compile works out which service gets which listener, and with what backends.
// See the package comment for the rules.
func Compile(opt Options, in Input) Result { return new(Memo).Compile(opt, in) }

// compiler is the state of one compilation.
type compiler struct {
	*Memo
	in Input

	incumbents map[uint16][]netip.AddrPort // of in, by port; nil until a dispute
	refused    []netip.AddrPort            // addresses that are in use, see Result.InUse

	// What went into the listener that is being built.
	named   bool     // host names
	pending string   // the last of them that had no answer yet, "" = none
	asked   bool     // answers of Local
	dialled []uint16 // ports of backends and their proxies

	candidates []candidate // scratch of backends
}

func (c *compiler) compile() Result {
	services := c.services()
	changed := c.listen(c.in.Bound)
	claims := make([]*claim, 0, len(services))
	for _, s := range services {
		claims = append(claims, c.within(s)...)
	}
	claims = c.award(c.vacant(services, claims))
	for _, cl := range claims {
		c.build(cl, changed)
	}
	claims = c.open(claims)

	r := Result{Listeners: make([]*route.Listener, 0, len(claims))}
	for _, cl := range claims {
		r.Listeners = append(r.Listeners, cl.listener)
		if cl.idle != "" {
			r.Idle = append(r.Idle, Idle{cl.addr, cl.by.owner, cl.idle})
		}
		if len(cl.pending) > 0 {
			r.Pending = append(r.Pending, Pending{cl.addr, cl.pending})
		}
	}
	for _, s := range services {
		r.Refused = append(r.Refused, s.refusals()...)
	}
	slices.SortFunc(c.refused, netip.AddrPort.Compare)
	r.InUse = slices.Compact(c.refused)
	return r
}

// service is one service of one source.
type service struct {
	owner string // "consul/web", as it came
	from  int    // place of the source in sourceOrder
	round uint64 // newest compilation that it is part of
	given []source.Service

	document bool // the source reads a document, see documents

	// Worked out from given, see Memo.read.
	parts       []source.Service // given as it was then
	createIndex uint64
	kept        bool       // all instances are, see source.Instance
	instances   []instance // sorted by ID
	claims      []*claim

	// The first lasting ones come from the tags, the rest from one compilation.
	notes   []note
	lasting int

	// Worked out from notes, see refusals.
	said    []note
	refused []route.Refusal
}

// instance is one registered instance and what its tags ask for.
type instance struct {
	*source.Instance
	*request
}

// documents are the sources that read one: nobody forgets to deregister what is
// in it.
var documents = []string{"file", "http"}

// sourceOrder decides who gets a port that has no owner. Others come last.
var sourceOrder = []string{"file", "consul", "nomad", "http"}

// services lists the services of all snapshots, sorted by owner, with their
// instances' tags read.
func (c *compiler) services() []*service {
	c.round++
	all := make([]*service, 0, len(c.known))
	for i := range c.in.Snapshots {
		snapshot := &c.in.Snapshots[i]
		for _, part := range snapshot.Services {
			s := c.service(snapshot.Source, part.Name)
			if s.round != c.round {
				s.round, s.given = c.round, s.given[:0]
				all = append(all, s)
			}
			s.given = append(s.given, part)
		}
	}
	if len(all) < len(c.known) {
		maps.DeleteFunc(c.known, func(_ identity, s *service) bool { return s.round != c.round })
	}
	byOwner := func(a, b *service) int { return strings.Compare(a.owner, b.owner) }
	if !slices.IsSortedFunc(all, byOwner) {
		slices.SortFunc(all, byOwner)
	}
	for _, s := range all {
		if !slices.EqualFunc(s.given, s.parts, same) {
			c.read(s)
		}
		s.notes = s.notes[:s.lasting]
	}
	return all
}

// read works out what the given registrations of s ask for.
func (m *Memo) read(s *service) {
	n := 0
	for _, part := range s.given {
		n += len(part.Instances)
	}
	s.instances, s.kept = make([]instance, 0, n), true
	for i, part := range s.given {
		if i == 0 || part.CreateIndex < s.createIndex {
			s.createIndex = part.CreateIndex
		}
		for k := range part.Instances {
			s.instances = append(s.instances, instance{Instance: &part.Instances[k]})
			s.kept = s.kept && part.Instances[k].Kept
		}
	}
	s.parts = slices.Clone(s.given)
	s.notes = nil
	if !slices.IsSortedFunc(s.instances, compareInstance) {
		slices.SortFunc(s.instances, compareInstance)
	}
	m.readTags(s)
	s.lasting = len(s.notes)
	s.claims = claims(s)
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

// readTags reads the tags of all instances of s.
func (m *Memo) readTags(s *service) {
	// Instances mostly have the same tags, or one of two sets during a rolling
	// change. More are remembered only so far that looking costs little.
	var seen [4]struct {
		tags   []string
		unread []source.Fault
		*request
	}
	next := 0
	for i := range s.instances {
		in := &s.instances[i]
		for _, known := range seen {
			if known.request != nil && slices.Equal(known.tags, in.Tags) && slices.Equal(known.unread, in.Faults) {
				in.request = known.request
				break
			}
		}
		if in.request == nil {
			in.request = m.request(in.Tags, in.Faults)
			seen[next].tags, seen[next].unread, seen[next].request = in.Tags, in.Faults, in.request
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
