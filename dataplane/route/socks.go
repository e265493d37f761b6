package route

import (
	"log/slog"
	"net/netip"
)

// Socks is a SOCKS5 proxy that dill reaches a backend through. User and
// Password are secrets: no way of printing a Socks shows them.
type Socks struct {
	Addr           netip.AddrPort
	User, Password string
}

// String is the proxy's URL, with a mask for the credentials if there are any.
func (s Socks) String() string {
	if s.User == "" && s.Password == "" {
		return "socks5://" + s.Addr.String()
	}
	return "socks5://***@" + s.Addr.String()
}

// GoString keeps the credentials out of %#v.
func (s Socks) GoString() string { return s.String() }

// LogValue keeps the credentials out of logs.
func (s Socks) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText keeps the credentials out of JSON.
func (s Socks) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
