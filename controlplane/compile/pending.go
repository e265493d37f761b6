package compile

import "net/netip"

// Pending is a listener that waits for host names.
type Pending struct {
	Addr      netip.AddrPort
	Instances []Unanswered // sorted by ID
}

// Unanswered is an instance that would be served if its host name, or that of
// its proxy, had been looked up. Both texts are as they came.
type Unanswered struct{ Instance, Host string }
