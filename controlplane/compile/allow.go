package compile

import (
	"net/netip"
	"slices"
	"strings"
)

// maxAllow is how many address ranges a listener can have: each client is held
// against all of them. Whoever is only in the rest is not admitted.
const maxAllow = 256

// parseAllow reads a comma-separated list of address ranges. A single address
// is the range of itself.
func parseAllow(s string) ([]netip.Prefix, string) {
	const want = "address ranges such as 10.0.0.0/8,192.168.1.7,2001:db8::/32"
	items := strings.Split(s, ",")
	ranges := make([]netip.Prefix, 0, len(items))
	for _, item := range items {
		p, ok := parseRange(strings.Trim(item, " "))
		if !ok {
			return nil, want
		}
		ranges = append(ranges, p)
	}
	return normalise(ranges), ""
}

func parseRange(s string) (netip.Prefix, bool) {
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, false
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, false
	}
	if p.Addr().Is4In6() {
		// ::ffff:10.0.0.0/104 is 10.0.0.0/8; a wider one is no IPv4 range.
		if p.Bits() < 96 {
			return netip.Prefix{}, false
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), true
}

// normalise sorts ranges and drops those that another one contains, so that
// equal sets are equal slices and no two of a set overlap. It works in place.
func normalise(ranges []netip.Prefix) []netip.Prefix {
	slices.SortFunc(ranges, netip.Prefix.Compare)
	out := ranges[:0]
	for _, p := range ranges {
		// A containing range sorts before what it contains.
		if n := len(out); n == 0 || !out[n-1].Overlaps(p) {
			out = append(out, p)
		}
	}
	return out
}

// intersect returns what both a and b admit; nil admits everybody, an empty
// list nobody. Both are normalised, and so is the result.
func intersect(a, b []netip.Prefix) []netip.Prefix {
	switch {
	case a == nil:
		return b
	case b == nil || slices.Equal(a, b):
		return a
	}
	both := []netip.Prefix{}
	for _, p := range a {
		for _, q := range b {
			switch {
			case !p.Overlaps(q):
			case p.Bits() > q.Bits():
				both = append(both, p)
			default:
				both = append(both, q)
			}
		}
	}
	return normalise(both)
}
