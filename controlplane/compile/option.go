package compile

import (
	"cmp"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"dill/controlplane/resolve"
	"dill/dataplane/route"
)

const (
	maxWeight = 65535

	minTimeout        = time.Millisecond
	maxConnectTimeout = 5 * time.Minute
	maxDrain          = 24 * time.Hour
	maxIdleTimeout    = 30 * 24 * time.Hour

	// maxCredential is RFC 1929's limit for a user name and a password.
	maxCredential = 255
)

// instanceOptions are what every instance decides for itself.
type instanceOptions struct {
	weight         int // 0 = not given
	connectTimeout time.Duration
	proxyProtocol  uint8
	proxy          *proxy // nil = direct
}

// listenerOptions are what the newest instance decides for a listener.
type listenerOptions struct {
	strategy       route.Strategy
	maxConnections int
	idleTimeout    time.Duration // <0 = off
	drain          time.Duration
}

// proxy is a SOCKS5 proxy whose host may still be a name.
type proxy struct {
	host           string
	port           uint16
	user, password string
}

// option is one dill.<key> tag other than dill.listener.
type option struct {
	key    string
	closed bool // a bad value refuses the instance

	// set stores the value, or returns what it wants instead. The text names
	// no part of the value.
	set func(s *spec, value string) (want string)
}

var options = [...]option{
	{key: keyAllow, closed: true, set: func(s *spec, v string) (want string) {
		s.allow, want = parseAllow(v)
		return want
	}},
	{key: keyProxy, closed: true, set: func(s *spec, v string) (want string) {
		s.proxy, want = parseProxy(v)
		return want
	}},
	{key: keyProxyProtocol, closed: true, set: func(s *spec, v string) string {
		switch v {
		case "v1":
			s.proxyProtocol = 1
		case "v2":
			s.proxyProtocol = 2
		default:
			return "v1 or v2"
		}
		return ""
	}},
	{key: keyConnectTimeout, set: func(s *spec, v string) (want string) {
		s.connectTimeout, want = parseDuration(v, maxConnectTimeout)
		return want
	}},
	{key: keyDrain, set: func(s *spec, v string) (want string) {
		if v == "off" || v == "0" {
			return ""
		}
		s.drain, want = parseDuration(v, maxDrain)
		return orOff(want)
	}},
	{key: keyIdleTimeout, set: func(s *spec, v string) (want string) {
		if v == "off" || v == "0" {
			s.idleTimeout = -1
			return ""
		}
		s.idleTimeout, want = parseDuration(v, maxIdleTimeout)
		return orOff(want)
	}},
	{key: keyMaxConnections, set: func(s *spec, v string) string {
		n, err := strconv.ParseUint(v, 10, 31)
		if err != nil {
			return "a whole number, 0 for no limit"
		}
		s.maxConnections = int(n)
		return ""
	}},
	{key: keyStrategy, set: func(s *spec, v string) string {
		strategy, err := route.ParseStrategy(v)
		if err != nil {
			return strings.TrimPrefix(err.Error(), "strategy is ")
		}
		s.strategy = strategy
		return ""
	}},
	{key: keyWeight, set: func(s *spec, v string) string {
		n, err := strconv.ParseUint(v, 10, 16)
		if err != nil || n < 1 {
			return "a whole number from 1 to " + strconv.Itoa(maxWeight)
		}
		s.weight = int(n)
		return ""
	}},
}

// known reports whether key is one that dill reads.
func known(key string) bool {
	switch key {
	case keyListener, keyAllow, keyProxy, keyProxyProtocol, keyConnectTimeout, keyDrain,
		keyIdleTimeout, keyMaxConnections, keyStrategy, keyWeight:
		return true
	}
	return false
}

func parseDuration(s string, most time.Duration) (time.Duration, string) {
	d, err := time.ParseDuration(s)
	if err != nil || d < minTimeout || d > most {
		return 0, "a duration such as 1500ms, 30s or 5m, from 1ms to " + brief(most)
	}
	return d, ""
}

// orOff adds to a want that the option can be switched off.
func orOff(want string) string {
	if want == "" {
		return ""
	}
	return want + ", or off"
}

// brief writes a whole number of hours or minutes without the zero rest that
// Duration.String adds.
func brief(d time.Duration) string {
	return strings.TrimSuffix(strings.TrimSuffix(d.String(), "0s"), "0m")
}

// socksPort is where a SOCKS proxy listens whose URL does not say (RFC 1928).
const socksPort = "1080"

// parseProxy reads socks5://[user:password@]host[:port]. socks5h is the same:
// names are the proxy's to look up either way. User and password may be
// percent-encoded, and must be where they hold one of @ / ? #.
func parseProxy(s string) (*proxy, string) {
	const want = "socks5://host:port or socks5://user:password@host:port"
	u, err := url.Parse(s) // the error is not used: it quotes s
	if err != nil || u.Scheme != "socks5" && u.Scheme != "socks5h" || u.Opaque != "" || u.RawQuery != "" ||
		u.ForceQuery || u.Fragment != "" || u.Path != "" && u.Path != "/" || u.Hostname() == "" {
		return nil, want
	}
	host := u.Hostname()
	if _, err := netip.ParseAddr(host); err != nil && !resolve.ValidName(host) {
		return nil, want // what is shown as a host may be a password whose @ was forgotten
	}
	port, err := strconv.ParseUint(cmp.Or(u.Port(), socksPort), 10, 16)
	if err != nil || port == 0 {
		return nil, want
	}
	p := &proxy{host: host, port: uint16(port)}
	if u.User != nil {
		p.user = u.User.Username()
		p.password, _ = u.User.Password()
	}
	if p.user == "" && p.password != "" {
		return nil, "a user name before the password"
	}
	if len(p.user) > maxCredential || len(p.password) > maxCredential {
		return nil, "a user name and a password of at most 255 bytes each"
	}
	return p, ""
}
