package dataplane

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"dill/dataplane/internal/sys"
)

// portRange is a range of ports, both ends included.
type portRange struct{ lo, hi int }

func (r portRange) has(port uint16) bool { return r.lo <= int(port) && int(port) <= r.hi }

func (r portRange) String() string {
	if r.lo == r.hi {
		return strconv.Itoa(r.lo)
	}
	return fmt.Sprintf("%d-%d", r.lo, r.hi)
}

// sourcePorts is the range that the kernel takes source ports from.
func sourcePorts() portRange {
	lo, hi := sys.EphemeralPorts()
	return portRange{int(lo), int(hi)}
}

// Unreserved says which of the ports lo to hi the kernel may give to any
// outgoing connection of this host, which keeps a listener from opening there,
// and what net.ipv4.ip_local_reserved_ports has to be to rule that out. Both
// are empty if there is no such port, or if the sysctl cannot be read.
func Unreserved(lo, hi int) (ports, reserve string) {
	reserved, err := sys.ReservedPorts()
	if err != nil {
		return "", ""
	}
	return unreserved(portRange{lo, hi}, sourcePorts(), reserved)
}

// unreserved is Unreserved for a range of source ports and a value of the
// sysctl.
func unreserved(wanted, source portRange, reserved string) (ports, reserve string) {
	all := parsePorts(reserved)
	both := portRange{max(wanted.lo, source.lo), min(wanted.hi, source.hi)}
	if free := subtract(both, all); len(free) > 0 {
		return joinPorts(free), joinPorts(mergePorts(append(all, both)))
	}
	return "", ""
}

// parsePorts reads a value of the sysctl, such as 8080,9000-9010.
func parsePorts(s string) (all []portRange) {
	for _, f := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == '\n' || r == ' ' }) {
		first, last, isRange := strings.Cut(f, "-")
		if !isRange {
			last = first
		}
		lo, err1 := strconv.Atoi(first)
		hi, err2 := strconv.Atoi(last)
		if err1 == nil && err2 == nil && lo <= hi {
			all = append(all, portRange{lo, hi})
		}
	}
	return mergePorts(all)
}

// mergePorts sorts ranges and joins those that overlap or touch.
func mergePorts(all []portRange) (merged []portRange) {
	all = slices.SortedFunc(slices.Values(all), func(a, b portRange) int { return a.lo - b.lo })
	for _, r := range all {
		if n := len(merged); n > 0 && r.lo <= merged[n-1].hi+1 {
			merged[n-1].hi = max(merged[n-1].hi, r.hi)
			continue
		}
		merged = append(merged, r)
	}
	return merged
}

// subtract is what of r is not in any of taken, which is in order.
func subtract(r portRange, taken []portRange) (left []portRange) {
	for _, t := range taken {
		if t.hi < r.lo || t.lo > r.hi {
			continue
		}
		if r.lo < t.lo {
			left = append(left, portRange{r.lo, t.lo - 1})
		}
		r.lo = t.hi + 1
	}
	if r.lo <= r.hi {
		left = append(left, r)
	}
	return left
}

func joinPorts(all []portRange) string {
	var parts []string
	for _, r := range all {
		parts = append(parts, r.String())
	}
	return strings.Join(parts, ",")
}
