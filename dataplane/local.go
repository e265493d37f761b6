package dataplane

import (
	"fmt"
	"net/netip"

	"dill/dataplane/internal/sys"
)

// Local reports whether a connection to addr would stay on this host, by the
// route that the kernel has for it now. That is true of the addresses of its
// interfaces, and of all others that are routed to the host itself. It does
// not wait. With an error nothing is known.
func Local(addr netip.Addr) (bool, error) {
	if !addr.IsValid() {
		return false, nil
	}
	r, e := sys.OpenRoutes()
	if e != 0 {
		return false, fmt.Errorf("netlink: %w", e)
	}
	defer r.Close()
	to, e := r.To(addr.WithZone(""))
	if e != 0 {
		return false, fmt.Errorf("route to %s: %w", addr, e)
	}
	return to.Local, nil
}
