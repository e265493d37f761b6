package config

import (
	"math"
	"slices"
	"strings"
	"time"
)

// Key describes one setting.
type Key struct {
	Name    string // as in a file, with dots
	Default string // as one would write it in the environment
	Doc     string // one line for the reference; what is accepted is added to it
	Secret  bool   // never printed
	Restart bool   // a change takes effect only at the next start

	field func(*Config) value
}

// Env returns the environment variable that sets the key.
func (k Key) Env() string { return envPrefix + envName(k.Name) }

const envPrefix = "DILL_"

func envName(key string) string {
	return strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// allowedKey is the one setting that is a map.
const allowedKey = "listeners.allowed"

// providers may stand below "routing." in a file, or after DILL_ROUTING_.
var providers = []string{"consul", "nomad", "file", "http"}

const (
	anyTime   = time.Duration(0)       // 0 switches the timeout off
	someTime  = time.Millisecond       // 0 would make no sense
	portMost  = 1<<16 - 1              // the highest port
	manyConn  = math.MaxInt32          // no practical limit
	pipeLeast = 64 << 10               // a splice of less costs more than the copy that it saves
	pipeMost  = 1 << 30                // no kernel allows a larger pipe
	pollLeast = 100 * time.Millisecond // more often would only burden the server
)

// Keys returns every setting, in the order of the reference. The slice is shared:
// do not change it.
func Keys() []Key { return keys }

var keys = []Key{
	{Name: allowedKey, Default: "local=127.0.0.1,any=0.0.0.0",
		Doc:   "labels that services may name in `dill.listener=<label>:<port>`, and the address each one stands for",
		field: func(c *Config) value { return labels(&c.Listeners.Allowed) }},
	{Name: "listeners.port_min", Default: "1024",
		Doc:   "lowest port a service may ask for",
		field: func(c *Config) value { return integer(&c.Listeners.PortMin, 1, portMost) }},
	{Name: "listeners.port_max", Default: "49151",
		Doc:   "highest port a service may ask for",
		field: func(c *Config) value { return integer(&c.Listeners.PortMax, 1, portMost) }},
	{Name: "listeners.max_per_service", Default: "1024",
		Doc:   "ports that one service may have; beyond it the lowest are served and the rest is refused; what is open stays; 0 is no limit",
		field: func(c *Config) value { return integer(&c.Listeners.MaxPerService, 0, portMost) }},
	{Name: "listeners.max", Default: "auto",
		Doc:   "the same for all services together; `auto` is half of the open files, less the reserve, divided by the event loops",
		field: func(c *Config) value { return autoInteger(&c.Listeners.Max, manyConn) }},
	{Name: "listeners.drain_timeout", Default: "30s",
		Doc:   "how long the connections of a closed port may go on before they are reset; 0 is for ever, unless `dill.drain` says otherwise",
		field: func(c *Config) value { return duration(&c.Listeners.DrainTimeout, anyTime) }},
	{Name: "listeners.linger", Default: "30s",
		Doc:   "how long a port stays open, trying the instances that passed last, when every instance is critical",
		field: func(c *Config) value { return duration(&c.Listeners.Linger, anyTime) }},
	{Name: "listeners.removal_share", Default: "0.5",
		Doc:   "a table that drops more than this share of the ports at once, when there are at least 4, is held until it is confirmed; 1 never holds",
		field: func(c *Config) value { return share(&c.Listeners.RemovalShare) }},

	{Name: "peek.listener", Default: "", Restart: true,
		Doc:   "address that tells the routing table to whoever connects; empty is off",
		field: func(c *Config) value { return listenAddress(&c.Peek.Listener) }},

	{Name: "runtime.gomaxprocs", Default: "0", Restart: true,
		Doc:   "Go's GOMAXPROCS; 0 leaves it to Go, which follows the CPUs and the cgroup limit",
		field: func(c *Config) value { return integer(&c.Runtime.GOMAXPROCS, 0, 4096) }},

	{Name: "dataplane.loops", Default: "0", Restart: true,
		Doc:   "event loops; 0 is one for each of GOMAXPROCS",
		field: func(c *Config) value { return integer(&c.Dataplane.Loops, 0, 4096) }},
	{Name: "dataplane.connect_timeout", Default: "5s",
		Doc:   "one attempt to connect to one backend",
		field: func(c *Config) value { return duration(&c.Dataplane.ConnectTimeout, someTime) }},
	{Name: "dataplane.connect_tries", Default: "3",
		Doc:   "attempts, each at the next backend, before the client is reset",
		field: func(c *Config) value { return integer(&c.Dataplane.ConnectTries, 1, 16) }},
	{Name: "dataplane.connect_total_timeout", Default: "15s",
		Doc:   "all attempts for one client together",
		field: func(c *Config) value { return duration(&c.Dataplane.ConnectTotalTimeout, someTime) }},
	{Name: "dataplane.half_close_timeout", Default: "5m",
		Doc:   "how long a connection that one side has finished may move no byte; 0 is for ever",
		field: func(c *Config) value { return duration(&c.Dataplane.HalfCloseTimeout, anyTime) }},
	{Name: "dataplane.idle_timeout", Default: "0",
		Doc:   "how long a connection may move no byte, and its peers take none that waits in a queue; 0 is for ever",
		field: func(c *Config) value { return duration(&c.Dataplane.IdleTimeout, anyTime) }},
	{Name: "dataplane.keepalive", Default: "30s", Restart: true,
		Doc:   "silence after which TCP keepalive probes both sides; 0 is off",
		field: func(c *Config) value { return duration(&c.Dataplane.KeepAlive, anyTime) }},
	{Name: "dataplane.user_timeout", Default: "0", Restart: true,
		Doc:   "TCP_USER_TIMEOUT on both sides: how long sent data may stay unacknowledged; 0 is the system's",
		field: func(c *Config) value { return duration(&c.Dataplane.UserTimeout, anyTime) }},
	{Name: "dataplane.max_connections", Default: "auto",
		Doc:   "clients served at once, more are reset; `auto` is what the limit of open files leaves beside ports, pipes and a reserve; 0 is off: clients that find no descriptor wait",
		field: func(c *Config) value { return autoInteger(&c.Dataplane.MaxConnections, manyConn) }},
	{Name: "dataplane.splice", Default: "true", Restart: true,
		Doc:   "move large streams inside the kernel with splice(2)",
		field: func(c *Config) value { return boolean(&c.Dataplane.Splice) }},
	{Name: "dataplane.pipe_size", Default: "1MiB", Restart: true,
		Doc:   "size of a splice pipe, at least 64KiB; where the system allows less, less is used, and below 64KiB large streams are copied",
		field: func(c *Config) value { return size(&c.Dataplane.PipeSize, pipeLeast, pipeMost) }},
	{Name: "dataplane.near_buffer", Default: "128KiB",
		Doc:   "send buffer of a large spliced stream to a peer that is near, so that what is in flight stays in the processor's cache; other streams have the system's tuning; 0 is off",
		field: func(c *Config) value { return size(&c.Dataplane.NearBuffer, 0, pipeMost) }},
	{Name: "dataplane.near_rtt", Default: "0",
		Doc:   "round trip up to which a peer on another host is near, too; 0 is never: only peers on this host are, in containers and namespaces behind veth devices too",
		field: func(c *Config) value { return durationUpTo(&c.Dataplane.NearRTT, anyTime, 10*time.Millisecond) }},
	{Name: "dataplane.backlog", Default: "0", Restart: true,
		Doc:   "accept queue of a port; 0 is the system's `net.core.somaxconn`",
		field: func(c *Config) value { return integer(&c.Dataplane.Backlog, 0, manyConn) }},
	{Name: "dataplane.busy_poll", Default: "100us",
		Doc:   "how long an event loop polls before it sleeps, once several messages in a row came alone and closer together than this: quicker answers for more processor time; 0 is off",
		field: func(c *Config) value { return durationUpTo(&c.Dataplane.BusyPoll, anyTime, time.Millisecond) }},
	{Name: "dataplane.eject_failures", Default: "3",
		Doc:   "failed connects in a row after which a backend is left out for a while; 0 is off",
		field: func(c *Config) value { return integer(&c.Dataplane.EjectFailures, 0, 1<<20) }},

	{Name: "consul.address", Default: "http://127.0.0.1:8500",
		Doc:   "Consul's HTTP API; a path is a prefix, before `/v1`",
		field: func(c *Config) value { return apiURL(&c.Consul.Address, "http", "https", "unix") }},
	{Name: "consul.token", Default: "", Secret: true,
		Doc:   "ACL token",
		field: func(c *Config) value { return text(&c.Consul.Token) }},
	{Name: "consul.token_file", Default: "",
		Doc:   "file that holds the ACL token, read again when it changes",
		field: func(c *Config) value { return filePath(&c.Consul.TokenFile) }},
	{Name: "consul.datacenter", Default: "",
		Doc:   "datacenter to watch; empty is the agent's",
		field: func(c *Config) value { return text(&c.Consul.Datacenter) }},
	{Name: "consul.namespace", Default: "",
		Doc:   "namespace to watch (Consul Enterprise)",
		field: func(c *Config) value { return text(&c.Consul.Namespace) }},
	{Name: "consul.partition", Default: "",
		Doc:   "admin partition to watch (Consul Enterprise)",
		field: func(c *Config) value { return text(&c.Consul.Partition) }},
	{Name: "consul.wait", Default: "40s",
		Doc:   "longest time that one blocking query waits; Consul makes 10m of more",
		field: func(c *Config) value { return duration(&c.Consul.Wait, time.Second) }},
	{Name: "consul.consistency_mode", Default: "default",
		Doc: "which server may answer: the leader, the leader after asking a quorum, or any; `leader` is `default` even where the agent prefers stale reads",
		field: func(c *Config) value {
			return choice(&c.Consul.ConsistencyMode, "default", "consistent", "stale", "leader")
		}},
	{Name: "consul.max_connections", Default: "150",
		Doc:   "connections to the agent, fewer where the reserve of open files has no room; by default it allows 200 from one address, shared by everything on it",
		field: func(c *Config) value { return integer(&c.Consul.MaxConnections, 20, 8192) }},
	{Name: "consul.settle", Default: "30s",
		Doc:   "how long a removal must stay true before it counts, after Consul restarted or was unreachable",
		field: func(c *Config) value { return duration(&c.Consul.Settle, anyTime) }},
	{Name: "consul.max_stale", Default: "0",
		Doc:   "how long what cannot be read any more, one service or all of Consul, is served as it last was; 0 is for ever",
		field: func(c *Config) value { return duration(&c.Consul.MaxStale, anyTime) }},
	{Name: "consul.allow_warning", Default: "false",
		Doc:   "serve instances whose checks warn, too",
		field: func(c *Config) value { return boolean(&c.Consul.AllowWarning) }},
	{Name: "consul.tls.ca", Default: "",
		Doc:   "PEM file with the certificates to verify Consul by; empty is the system's",
		field: func(c *Config) value { return filePath(&c.Consul.TLS.CA) }},
	{Name: "consul.tls.cert", Default: "",
		Doc:   "PEM file with the client certificate",
		field: func(c *Config) value { return filePath(&c.Consul.TLS.Cert) }},
	{Name: "consul.tls.key", Default: "",
		Doc:   "PEM file with the client certificate's key",
		field: func(c *Config) value { return filePath(&c.Consul.TLS.Key) }},
	{Name: "consul.tls.server_name", Default: "",
		Doc:   "name that Consul's certificate must carry; empty is the host in the address",
		field: func(c *Config) value { return text(&c.Consul.TLS.ServerName) }},
	{Name: "consul.tls.insecure", Default: "false",
		Doc:   "do not verify Consul's certificate",
		field: func(c *Config) value { return boolean(&c.Consul.TLS.Insecure) }},

	{Name: "nomad.address", Default: "http://127.0.0.1:4646",
		Doc:   "Nomad's HTTP API; a path is a prefix, before `/v1`",
		field: func(c *Config) value { return apiURL(&c.Nomad.Address, "http", "https") }},
	{Name: "nomad.token", Default: "", Secret: true,
		Doc:   "ACL token",
		field: func(c *Config) value { return text(&c.Nomad.Token) }},
	{Name: "nomad.namespace", Default: "",
		Doc:   "namespace to watch; empty is Nomad's default one, `*` is all",
		field: func(c *Config) value { return text(&c.Nomad.Namespace) }},
	{Name: "nomad.wait", Default: "40s",
		Doc:   "longest time that one blocking query waits; Nomad makes 5m of more",
		field: func(c *Config) value { return duration(&c.Nomad.Wait, time.Second) }},
	{Name: "nomad.stale", Default: "false",
		Doc:   "let any server answer, not only the leader",
		field: func(c *Config) value { return boolean(&c.Nomad.Stale) }},
	{Name: "nomad.tls.ca", Default: "",
		Doc:   "PEM file with the certificates to verify Nomad by; empty is the system's",
		field: func(c *Config) value { return filePath(&c.Nomad.TLS.CA) }},
	{Name: "nomad.tls.cert", Default: "",
		Doc:   "PEM file with the client certificate",
		field: func(c *Config) value { return filePath(&c.Nomad.TLS.Cert) }},
	{Name: "nomad.tls.key", Default: "",
		Doc:   "PEM file with the client certificate's key",
		field: func(c *Config) value { return filePath(&c.Nomad.TLS.Key) }},
	{Name: "nomad.tls.insecure", Default: "false",
		Doc:   "do not verify Nomad's certificate",
		field: func(c *Config) value { return boolean(&c.Nomad.TLS.Insecure) }},

	{Name: "file.path", Default: "",
		Doc:   "routing file in TOML, YAML or JSON; empty is off",
		field: func(c *Config) value { return filePath(&c.File.Path) }},
	{Name: "file.watch", Default: "true",
		Doc:   "read the routing file again whenever it changes",
		field: func(c *Config) value { return boolean(&c.File.Watch) }},

	{Name: "http.endpoint", Default: "",
		Doc:   "URL that serves a routing file; empty is off",
		field: func(c *Config) value { return documentURL(&c.HTTP.Endpoint, "http", "https") }},
	{Name: "http.poll_interval", Default: "5s",
		Doc:   "pause between two polls",
		field: func(c *Config) value { return duration(&c.HTTP.PollInterval, pollLeast) }},
	{Name: "http.poll_timeout", Default: "5s",
		Doc:   "longest time one poll may take",
		field: func(c *Config) value { return duration(&c.HTTP.PollTimeout, someTime) }},

	{Name: "state.path", Default: "", Restart: true,
		Doc:   "file that keeps the last good table, so that a start without Consul serves it; empty is off",
		field: func(c *Config) value { return filePath(&c.State.Path) }},

	{Name: "shutdown.timeout", Default: "30s",
		Doc:   "how long connections may finish after SIGTERM or SIGINT; the rest is reset",
		field: func(c *Config) value { return duration(&c.Shutdown.Timeout, anyTime) }},

	{Name: "log.level", Default: "info",
		Doc:   "least severe messages to log",
		field: func(c *Config) value { return level(&c.Log.Level) }},
	{Name: "log.format", Default: "auto", Restart: true,
		Doc:   "form of the log on stderr; `auto` is for people on a terminal, in colour unless NO_COLOR is set, and `text` elsewhere",
		field: func(c *Config) value { return choice(&c.Log.Format, "auto", "text", "json") }},

	{Name: "debug.pprof", Default: "", Restart: true,
		Doc:   "address that serves Go's profiles over HTTP, to everybody who reaches it; empty is off",
		field: func(c *Config) value { return listenAddress(&c.Debug.Pprof) }},
}

// keyByName and keyByEnv find a row by its name and by its variable without
// the prefix, aliases included.
var keyByName, keyByEnv = func() (map[string]*Key, map[string]*Key) {
	names, envs := map[string]*Key{}, map[string]*Key{}
	for i := range keys {
		k := &keys[i]
		names[k.Name] = k
		envs[envName(k.Name)] = k
		if isProvider(k.Name) {
			envs[envName("routing."+k.Name)] = k
		}
	}
	return names, envs
}()

// isProvider reports whether key lies in the section of a route source.
func isProvider(key string) bool {
	section, _, _ := strings.Cut(key, ".")
	return slices.Contains(providers, section)
}
