package compile

import (
	"fmt"
	"net/netip"
	"strings"

	"dill/controlplane/source"
)

// Idle is a listener whose service has it and has no healthy instance for it.
type Idle struct {
	Addr   netip.AddrPort
	Owner  string // "consul/web", as it came
	Reason string // "no instance is passing: 2 critical"; safe to print
}

// idle says that every usable member of cl is kept from being served by its
// health, and by which; "" if one is not, or is for another reason.
func (c *compiler) idle(cl *claim) string {
	var count [source.Maintenance + 1]int
	any := false
	for _, in := range cl.members {
		switch {
		case in.unusable:
		case c.serves(in) || in.Health > source.Maintenance:
			return ""
		default:
			count[in.Health]++
			any = true
		}
	}
	if !any {
		return ""
	}
	var parts []string
	for health, n := range count {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, source.Health(health)))
		}
	}
	return "no instance is passing: " + strings.Join(parts, ", ")
}
