// Package route holds what the control plane publishes and the event loops
// read: an immutable Table behind one atomic pointer, and the pickers that
// choose a backend from it. It does no I/O and allocates nothing after a table
// was built.
//
// Counters and cursors that must survive a table swap (round robin position,
// connections per backend, ejection) live in ListenerState and BackendState.
// A new table inherits them from its predecessor by address (see NewTable).
package route

import (
	"net/netip"
	"time"
)

// Table is one generation of all routes. Nothing in it changes once it is
// published; only the State structs it points to do.
type Table struct {
	Generation uint64
	Listeners  []*Listener // sorted by Addr: address, then port, numerically
	Refused    []Refusal   // who asked for a port and did not get it, for Peek

	byAddr map[netip.AddrPort]*Listener
}

// Listener is one address that dill serves, and where its connections go.
type Listener struct {
	Addr     netip.AddrPort
	Owner    string // "consul/web": source and service that own the port
	Strategy Strategy
	Backends []*Backend // sorted by Addr, unique; may be empty (all critical)

	MaxConnections int            // 0 = no limit of its own
	IdleTimeout    time.Duration  // 0 = the data plane's default, <0 = off
	Allow          []netip.Prefix // nil = everybody; otherwise only these
	DrainTimeout   time.Duration  // 0 = sessions of a gone backend run on

	State *ListenerState // inherited across generations, never nil

	picker picker // precomputed for Strategy
}

// Backend is one instance behind a listener.
type Backend struct {
	Addr           netip.AddrPort
	Instance       string // the source's instance ID, for people
	Weight         int    // ≥ 1
	ConnectTimeout time.Duration // 0 = the data plane's default
	ProxyProtocol  uint8         // 0 = none, 1 or 2
	Socks          *Socks        // nil = direct

	State *BackendState // inherited across generations, never nil
}

// Socks is a SOCKS5 proxy that dill reaches a backend through. User and
// Password are secrets: no method prints them.
type Socks struct {
	Addr           netip.AddrPort
	User, Password string
}

// Refusal says why a claim on a port is not served, or is served only in part.
type Refusal struct {
	Service  string // "consul/web"
	Instance string // "" when the whole service is meant
	Claim    string // the tag or address asked for, escaped and shortened
	Reason   string // one line; names what would be accepted
}

// Strategy is how a listener picks among its backends.
type Strategy uint8

const (
	RoundRobin Strategy = iota // weighted, smooth
	LeastConn
	Random     // two choices, the less loaded
	SourceHash // Maglev over the client address
)
