package config

import (
	"net/netip"
	neturl "net/url"
	"slices"
	"strconv"
	"strings"

	"dill/controlplane/mask"
)

// localhost is the one name that stands for an address without being looked up.
const localhost = "localhost"

// listenAddress is an IP address and port to listen on, or empty.
func listenAddress(field *netip.AddrPort) value {
	return scalar[netip.AddrPort]{field: field, parse: func(raw any) (netip.AddrPort, bool) {
		s, ok := raw.(string)
		s = strings.TrimSpace(s)
		if s == "" {
			return netip.AddrPort{}, ok
		}
		// What net.Listen would take, but without a name server.
		switch {
		case strings.HasPrefix(s, ":"):
			s = "0.0.0.0" + s
		case len(s) > len(localhost) && s[len(localhost)] == ':' && strings.EqualFold(s[:len(localhost)], localhost):
			s = "127.0.0.1" + s[len(localhost):]
		}
		a, err := netip.ParseAddrPort(s)
		if err != nil || !bindable(a.Addr()) {
			return netip.AddrPort{}, false
		}
		return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), true
	}, print: func(a netip.AddrPort) string {
		if !a.IsValid() {
			return `""`
		}
		return strconv.Quote(a.String())
	}, name: "IP address and port", wants: "an IP address and port such as 127.0.0.1:2323 or [::1]:2323, or nothing"}
}

// bindable reports whether a TCP listener can have the address on some machine.
func bindable(a netip.Addr) bool {
	return a.IsValid() && a.Zone() == "" && !a.IsMulticast() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// apiURL is the URL of an HTTP API, stored with its scheme. Its path is a prefix
// of the API's own, so no query can follow. "unix" among the schemes takes the
// path of a socket.
func apiURL(field *string, schemes ...string) value { return url(field, false, schemes) }

// documentURL is the URL of a document, stored with its scheme, or empty.
func documentURL(field *string, schemes ...string) value { return url(field, true, schemes) }

func url(field *string, document bool, schemes []string) value {
	wants := "a URL such as http://127.0.0.1:8500, with " + oneOf(schemes) + " before ://"
	if document {
		wants += ", or nothing"
	} else {
		wants += " and no query"
	}
	return scalar[string]{field: field, parse: func(raw any) (string, bool) {
		s, ok := raw.(string)
		s = strings.TrimSpace(s)
		if s == "" {
			return "", ok && document
		}
		if !strings.Contains(s, "://") {
			s = "http://" + s // the form CONSUL_HTTP_ADDR and NOMAD_ADDR often have
		}
		u, err := neturl.Parse(s)
		valid := err == nil && validURL(u, schemes) && (document || u.RawQuery == "")
		return s, valid && len(s) <= 4096 && printable(s)
	}, print: strconv.Quote, name: "URL", wants: wants, mask: mask.URL}
}

func validURL(u *neturl.URL, schemes []string) bool {
	if !slices.Contains(schemes, u.Scheme) || u.Fragment != "" {
		return false
	}
	if u.Scheme == "unix" {
		return u.Host == "" && len(u.Path) > 1
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > portMost {
			return false
		}
	} else if strings.HasSuffix(u.Host, ":") {
		return false
	}
	return validHost(u.Hostname())
}

// validHost accepts an IP address or a name that could be in the DNS. A name
// whose last label is a number is a mistyped address.
func validHost(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	host = strings.TrimSuffix(host, ".")
	if host == "" || len(host) > 253 {
		return false
	}
	parts := strings.Split(host, ".")
	for _, label := range parts {
		if label == "" || len(label) > 63 || strings.ContainsFunc(label, notHostRune) {
			return false
		}
	}
	_, err := strconv.Atoi(parts[len(parts)-1])
	return err != nil
}

func notHostRune(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
}
