// Package route holds what the control plane publishes and the event loops
// read: an immutable Table behind one atomic pointer, and the pickers that
// choose a backend from it. It does no I/O, reads no clock by itself (see Now)
// and allocates nothing after a table was built.
//
//	t := route.NewTable(gen, listeners, refused, prev) // control plane
//	engine.Publish(t)
//
//	l := t.Lookup(addr)                 // event loop, once per connection
//	var tried route.Tried
//	for b := l.Pick(now, client, &tried); b != nil; b = l.Pick(now, client, &tried) {
//		b.State.Acquire()
//		if connected(b) {
//			l.ConnectOK(b)
//			break // Release when the session ends
//		}
//		b.State.Release()
//		l.ConnectFailed(b, &tried, errno, now, ejectAfter)
//	}
//
// Counters and cursors that must survive a table swap (round robin position,
// connections per backend, ejection) live in ListenerState and BackendState.
// A new table inherits them from its predecessor, see NewTable.
package route

import (
	"errors"
	"net/netip"
	"slices"
	"time"
)

// MaxBackends is how many backends a listener can have; pickers store their
// indices in 16 bits, and more than this behind one address is a mistake.
const MaxBackends = 4096

// Table is one generation of all routes. Nothing in it changes once it is
// published; only the State structs it points to do.
type Table struct {
	Generation uint64
	Listeners  []*Listener // sorted by Addr: address, then port, numerically
	Refused    []Refusal   // who asked for a port and did not get it, for Peek

	byAddr map[netip.AddrPort]*Listener

	// departed are listeners that are gone but had sessions when this table
	// was built. One that returns meanwhile finds its counts again.
	departed []*Listener
}

// Listener is one address that dill serves, and where its connections go.
type Listener struct {
	Addr     netip.AddrPort
	Owner    string // "consul/web": source and service that own the port
	Strategy Strategy
	Backends []*Backend // sorted by target, unique; may be empty (all critical)

	MaxConnections int            // 0 = no limit of its own
	IdleTimeout    time.Duration  // 0 = the data plane's default, <0 = off
	Allow          []netip.Prefix // nil = everybody; otherwise only these
	DrainTimeout   time.Duration  // 0 = sessions of a gone backend run on

	// Waiting says that host names of instances have no answer yet: a backend
	// that is missing may be back with it, and its sessions are not drained
	// before that.
	Waiting bool

	State *ListenerState // inherited across generations, never nil in a Table

	slots    []uint16   // what Strategy precomputed, see newSlots
	departed []*Backend // gone, but with connections when this was built
}

// Backend is one instance behind a listener.
type Backend struct {
	// Addr is where the instance is reached. With a Host there is the port only.
	Addr netip.AddrPort
	// Host is the name that Socks is asked for in place of an address, at most
	// 255 bytes; "" = none. Only a Backend with Socks has one.
	Host           string
	Instance       string        // the source's instance ID, for people
	Weight         int           // ≥ 1; NewTable raises anything less
	ConnectTimeout time.Duration // 0 = the data plane's default
	ProxyProtocol  uint8         // 0 = none, 1 or 2
	Socks          *Socks        // nil = direct

	State *BackendState // inherited across generations, never nil in a Table
}

// Refusal says why a claim on a port is not served, or is served only in part.
type Refusal struct {
	Service  string // "consul/web"
	Instance string // "" when the whole service is meant
	Claim    string // the tag or address asked for, escaped and shortened
	Reason   string // one line; names what would be accepted
}

// ErrInUse is why a listener is not open at whose address and port another
// program listens, or may, where the kernel does not tell. A connection that has
// the port is none: it goes.
var ErrInUse = errors.New("another program listens there")

// NewTable builds the generation that follows prev, which may be nil.
//
// It takes the listeners over, sorts them by address and their backends by
// target, and keeps the first of several with one address or target. State is
// inherited from prev: a listener's by its address, a backend's by its target
// within that listener. A listener that is in every respect as in prev is prev's
// own *Listener again, so comparing pointers tells what changed; listeners and
// backends that are part of an earlier table may be handed in again, they are
// copied before anything in them is set.
//
// Precomputed schedules are reused while strategy, backends' targets and
// weights stay the same. prev itself is not changed and not retained.
func NewTable(generation uint64, listeners []*Listener, refused []Refusal, prev *Table) *Table {
	t := &Table{
		Generation: generation,
		Listeners:  make([]*Listener, 0, len(listeners)),
		Refused:    refused,
		byAddr:     make(map[netip.AddrPort]*Listener, len(listeners)),
	}
	for _, l := range listeners {
		addr := unmap(l.Addr)
		if t.byAddr[addr] != nil {
			continue
		}
		l = l.succeed(prev.predecessor(addr))
		t.byAddr[addr] = l
		t.Listeners = append(t.Listeners, l)
	}
	slices.SortFunc(t.Listeners, func(a, b *Listener) int { return a.Addr.Compare(b.Addr) })
	t.departed = prev.leaving(t)
	return t
}

// Lookup returns the listener at addr, nil when there is none. A nil table is
// empty. IPv4-mapped addresses find their IPv4 listener.
func (t *Table) Lookup(addr netip.AddrPort) *Listener {
	if t == nil {
		return nil
	}
	return t.byAddr[unmap(addr)]
}

// Backend returns the backend behind the given listener that has b's target, or
// nil.
func (t *Table) Backend(listener netip.AddrPort, b *Backend) *Backend {
	if l := t.Lookup(listener); l != nil {
		return l.Backend(b)
	}
	return nil
}

// Backend returns l's backend that has b's target, nil when there is none. b
// may be of any table, or of none if its address is unmapped.
func (l *Listener) Backend(b *Backend) *Backend {
	i, ok := l.find(b)
	if !ok {
		return nil
	}
	return l.Backends[i]
}

// find returns the index of the backend that has b's target.
func (l *Listener) find(b *Backend) (int, bool) {
	return slices.BinarySearchFunc(l.Backends, b, (*Backend).CompareTarget)
}

// Allows reports whether a client with this address may use l.
func (l *Listener) Allows(client netip.Addr) bool {
	if l.Allow == nil {
		return true
	}
	// Prefix.Contains is false for every zoned or mapped address.
	client = client.Unmap().WithZone("")
	for _, p := range l.Allow {
		if p.Contains(client) {
			return true
		}
	}
	return false
}

// unmap turns ::ffff:192.0.2.1 into 192.0.2.1: one address, one key.
func unmap(a netip.AddrPort) netip.AddrPort {
	if !a.Addr().Is4In6() {
		return a
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
