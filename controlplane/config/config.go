package config

import (
	"log/slog"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"dill/controlplane/mask"
)

// Config is every setting after all layers were applied. It is never changed
// after Load returned it; a reload makes a new one.
type Config struct {
	Listeners Listeners
	Peek      Peek
	Runtime   Runtime
	Dataplane Dataplane
	Consul    Consul
	Nomad     Nomad
	File      File
	HTTP      HTTP
	State     State
	Shutdown  Shutdown
	Log       Log
	Debug     Debug

	path    string            // of the file, "" without one
	origins map[string]string // key → file or variable that set it; absent for defaults
}

// Listeners says which ports services may ask for, and what happens to them
// when services go.
type Listeners struct {
	Allowed       map[string]netip.Addr // label in lower case → address to listen on; read only
	PortMin       int                   // inclusive
	PortMax       int                   // inclusive, ≥ PortMin
	MaxPerService int                   // listeners of one service; 0 = no limit
	Max           int                   // listeners in all; 0 = no limit, Auto = from the open file limit
	DrainTimeout  time.Duration         // sessions of a closed listener; 0 = for ever
	Linger        time.Duration         // a listener whose instances are all critical; 0 = none
	RemovalShare  float64               // 0..1: dropping more of the listeners than this is held back; 1 = never
}

// Peek is the address that tells the routing table.
type Peek struct {
	Listener netip.AddrPort // invalid = off; port 0 = any free one
}

// Runtime tunes the Go runtime.
type Runtime struct {
	GOMAXPROCS int // 0 = leave it to Go, which follows CPUs and cgroup limits
}

// Dataplane tunes the relay. Durations and counts of 0 mean off unless said
// otherwise.
type Dataplane struct {
	Loops               int           // event loops; 0 = GOMAXPROCS
	ConnectTimeout      time.Duration // one attempt at one backend; > 0
	ConnectTries        int           // attempts for one client; ≥ 1
	ConnectTotalTimeout time.Duration // all attempts for one client; > 0
	HalfCloseTimeout    time.Duration
	IdleTimeout         time.Duration
	KeepAlive           time.Duration
	UserTimeout         time.Duration
	MaxConnections      int // AutoConnections = as many as the open file limit allows
	Splice              bool
	PipeSize            int           // bytes
	NearBuffer          int           // bytes; 0 = off
	NearRTT             time.Duration // 0 = only this host is near
	Backlog             int           // 0 = the system's somaxconn
	BusyPoll            time.Duration // 0 = never
	EjectFailures       int
}

// Consul is where and how to watch Consul.
type Consul struct {
	Enabled         bool   // set in the file or by DILL_*, or no other source is
	Address         string // URL: http, https or unix; may hold a password
	Token           Secret // at most one of Token and TokenFile is set
	TokenFile       string
	Datacenter      string
	Namespace       string
	Partition       string
	Wait            time.Duration
	ConsistencyMode string // "default", "consistent", "stale" or "leader"
	MaxConnections  int
	Settle          time.Duration
	MaxStale        time.Duration
	AllowWarning    bool
	TLS             TLS
}

// Nomad is where and how to watch Nomad.
type Nomad struct {
	Enabled   bool
	Address   string // URL: http or https; may hold a password
	Token     Secret
	Namespace string
	Wait      time.Duration
	Stale     bool
	TLS       TLS
}

// Secret is text that no way of printing shows: string(s) is its value.
type Secret string

func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return mask.Hidden
}

// GoString keeps %#v from showing it.
func (s Secret) GoString() string { return strconv.Quote(s.String()) }

// MarshalText keeps encoders from showing it.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// TLS is how to authenticate a server and dill to it. Paths are of PEM files.
type TLS struct {
	CA         string // "" = the system's
	Cert, Key  string // both or neither
	ServerName string // "" = the host in the address; Consul only
	Insecure   bool   // do not verify the server
}

// File is a watched routing file.
type File struct {
	Path  string // "" = off
	Watch bool
}

// HTTP is a polled endpoint that serves a routing file.
type HTTP struct {
	Endpoint     string // URL: http or https; may hold a password; "" = off
	PollInterval time.Duration
	PollTimeout  time.Duration
}

// Debug is for whoever looks into a running dill.
type Debug struct {
	Pprof netip.AddrPort // serves Go's profiles; invalid = off
}

// State is where the last good table is kept.
type State struct {
	Path string // "" = off
}

// Shutdown is how dill ends.
type Shutdown struct {
	Timeout time.Duration // for connections to finish after SIGTERM; 0 = none
}

// Log is what dill says on stderr.
type Log struct {
	Level  slog.Level
	Format string // "auto", "text" or "json"
}

// Path returns the file this configuration was read from, "" without one.
func (c *Config) Path() string { return c.path }

// Sources returns the names of the sources to run, in their order of
// precedence. There is always one.
func (c *Config) Sources() []string {
	var names []string
	for _, s := range []struct {
		name string
		on   bool
	}{
		{"file", c.File.Path != ""},
		{"consul", c.Consul.Enabled},
		{"nomad", c.Nomad.Enabled},
		{"http", c.HTTP.Endpoint != ""},
	} {
		if s.on {
			names = append(names, s.name)
		}
	}
	return names
}

// Auto says that dill shall choose.
const Auto = -1

// AutoConnections as Dataplane.MaxConnections means: follow the open file limit.
const AutoConnections = Auto

// String names the file and the sources, nothing secret: a Config that is
// logged by accident says no more.
func (c *Config) String() string {
	path := c.path
	if path == "" {
		path = "no file"
	}
	return path + "; sources: " + strings.Join(c.Sources(), ", ")
}

// GoString keeps secrets out of %#v.
func (c *Config) GoString() string { return c.String() }
