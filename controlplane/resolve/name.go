package resolve

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// ValidName tells whether host can be asked of a name server at all: letters,
// digits, '-', '_' and dots, labels of 1..63 bytes, 253 bytes in all. A name
// made of digits and dots alone is a mistyped address, not a name.
func ValidName(host string) bool {
	host = strings.TrimSuffix(host, ".")
	if host == "" || len(host) > 253 {
		return false
	}
	letters := false
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			switch c := label[i]; {
			case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', c == '_':
				letters = true
			case '0' <= c && c <= '9', c == '-':
			default:
				return false
			}
		}
	}
	return letters
}

// normal returns addrs sorted, unmapped, unique, and no more than maxAddrs.
func normal(addrs []netip.Addr) []netip.Addr {
	out := make([]netip.Addr, 0, len(addrs))
	for _, a := range addrs {
		if a.IsValid() && !a.IsUnspecified() {
			out = append(out, a.Unmap())
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	out = slices.Compact(out)
	return out[:min(len(out), maxAddrs)]
}

// describe words a lookup's error for people. The resolver's own text repeats
// the name and carries the name server's address, which changes from try to
// try and would look like a change.
func describe(host string, err error) error {
	var dns *net.DNSError
	if errors.As(err, &dns) {
		switch {
		case dns.IsNotFound:
			return fmt.Errorf("look up %s: no such host", host)
		case dns.IsTimeout:
			return fmt.Errorf("look up %s: timed out", host)
		}
		return fmt.Errorf("look up %s: %s", host, dns.Err)
	}
	return fmt.Errorf("look up %s: %w", host, err)
}

// jitter spreads refreshes by a tenth, so that names learnt together are not
// asked for together for ever.
func jitter(d time.Duration) time.Duration {
	return d - d/20 + rand.N(d/10)
}
