package config

import (
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// write puts a file called name in a directory of the test's own.
func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func mustLoad(t *testing.T, path string, environ ...string) *Config {
	t.Helper()
	c, err := LoadWith(path, environ)
	if err != nil {
		t.Fatalf("load %s with %q: %v", path, environ, err)
	}
	return c
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// defaults is what an empty configuration means, spelled out once more so that
// nobody changes one by accident.
func defaults() Config {
	return Config{
		Listeners: Listeners{
			Allowed: map[string]netip.Addr{"local": addr("127.0.0.1"), "any": addr("0.0.0.0")},
			PortMin: 1024, PortMax: 49151,
			DrainTimeout: 30 * time.Second, Linger: 30 * time.Second, RemovalShare: 0.5,
			MaxPerService: 1024, Max: Auto,
		},
		Dataplane: Dataplane{
			ConnectTimeout: 5 * time.Second, ConnectTries: 3, ConnectTotalTimeout: 15 * time.Second,
			HalfCloseTimeout: 5 * time.Minute, KeepAlive: 30 * time.Second,
			MaxConnections: AutoConnections, Splice: true, PipeSize: 1 << 20, NearBuffer: 128 << 10,
			BusyPoll: 100 * time.Microsecond, EjectFailures: 3,
		},
		Consul: Consul{
			Enabled: true, Address: "http://127.0.0.1:8500", Wait: 40 * time.Second,
			ConsistencyMode: "default", MaxConnections: 150, Settle: 30 * time.Second,
		},
		Nomad:    Nomad{Address: "http://127.0.0.1:4646", Wait: 40 * time.Second},
		File:     File{Watch: true},
		HTTP:     HTTP{PollInterval: 5 * time.Second, PollTimeout: 5 * time.Second},
		Shutdown: Shutdown{Timeout: 30 * time.Second},
		Log:      Log{Level: slog.LevelInfo, Format: "auto"},
	}
}

// same compares settings only, not where they come from.
func same(t *testing.T, got *Config, want Config) {
	t.Helper()
	g := *got
	g.path, g.origins = "", nil
	if !reflect.DeepEqual(g, want) {
		t.Errorf("got  %#v\nwant %#v", fields(g), fields(want))
	}
}

// fields is a Config without its GoString.
func fields(c Config) any {
	type plain Config
	return plain(c)
}

func TestDefaults(t *testing.T) { same(t, mustLoad(t, ""), defaults()) }

// The files under cmd/dill/testdata are the original's, and the same content in
// the formats it names without showing them.
func TestOriginalFiles(t *testing.T) {
	want := defaults()
	want.Peek.Listener = netip.MustParseAddrPort("127.0.0.1:4141")
	want.Runtime.GOMAXPROCS = 4
	for _, ext := range []string{"toml", "yaml", "json", "hcl", "env", "properties"} {
		t.Run(ext, func(t *testing.T) {
			c := mustLoad(t, filepath.Join("..", "..", "cmd", "dill", "testdata", "config."+ext))
			same(t, c, want)
			for _, key := range []string{
				"listeners.allowed", "listeners.port_min", "listeners.port_max",
				"consul.address", "peek.listener", "runtime.gomaxprocs",
			} {
				if c.origins[key] != c.path {
					t.Errorf("%s comes from %q, want the file", key, c.origins[key])
				}
			}
			if got := c.Sources(); !slices.Equal(got, []string{"consul"}) {
				t.Errorf("sources %q", got)
			}
		})
	}
}

// samples has two values for every key, neither the default, the first for the
// file. Durations and numbers are text here; typed tells what a file has.
var samples = map[string][2]string{
	"listeners.allowed":               {"internal=10.0.0.1,v6=::1", "public=12.42.22.65"},
	"listeners.port_min":              {"2000", "3000"},
	"listeners.port_max":              {"20000", "30000"},
	"listeners.drain_timeout":         {"1s", "2s"},
	"listeners.linger":                {"3s", "4s"},
	"listeners.max":                   {"100", "200"},
	"listeners.max_per_service":       {"7", "0"},
	"listeners.removal_share":         {"0.25", "1"},
	"peek.listener":                   {"127.0.0.1:2323", "[::1]:2323"},
	"runtime.gomaxprocs":              {"2", "3"},
	"dataplane.loops":                 {"2", "3"},
	"dataplane.connect_timeout":       {"1s", "2s"},
	"dataplane.connect_tries":         {"2", "4"},
	"dataplane.connect_total_timeout": {"10s", "20s"},
	"dataplane.half_close_timeout":    {"1m", "2m"},
	"dataplane.idle_timeout":          {"1h", "2h"},
	"dataplane.keepalive":             {"10s", "20s"},
	"dataplane.user_timeout":          {"10s", "20s"},
	"dataplane.max_connections":       {"100", "0"},
	"dataplane.splice":                {"false", "0"},
	"dataplane.pipe_size":             {"65536", "128KiB"},
	"dataplane.near_buffer":           {"65536", "0"},
	"dataplane.near_rtt":              {"200us", "1ms"},
	"dataplane.backlog":               {"128", "256"},
	"dataplane.busy_poll":             {"20us", "0"},
	"dataplane.eject_failures":        {"1", "0"},
	"consul.address":                  {"https://consul.example:8501", "unix:///run/consul.sock"},
	"consul.token":                    {"s3cret-file", "s3cret-env"},
	"consul.token_file":               {"/run/token", "/run/other"},
	"consul.datacenter":               {"dc1", "dc2"},
	"consul.namespace":                {"ns1", "ns2"},
	"consul.partition":                {"p1", "p2"},
	"consul.wait":                     {"1m", "2m"},
	"consul.consistency_mode":         {"stale", "consistent"},
	"consul.max_connections":          {"50", "60"},
	"consul.settle":                   {"1s", "2s"},
	"consul.max_stale":                {"12h", "1h"},
	"consul.allow_warning":            {"true", "1"},
	"consul.tls.ca":                   {"ca1", "ca2"},
	"consul.tls.cert":                 {"cert1", "cert2"},
	"consul.tls.key":                  {"key1", "key2"},
	"consul.tls.server_name":          {"one", "two"},
	"consul.tls.insecure":             {"true", "1"},
	"nomad.address":                   {"http://10.0.0.1:4646", "http://10.0.0.2:4646"},
	"nomad.token":                     {"s3cret-file", "s3cret-env"},
	"nomad.namespace":                 {"ns1", "*"},
	"nomad.wait":                      {"1m", "2m"},
	"nomad.stale":                     {"true", "1"},
	"nomad.tls.ca":                    {"ca1", "ca2"},
	"nomad.tls.cert":                  {"cert1", "cert2"},
	"nomad.tls.key":                   {"key1", "key2"},
	"nomad.tls.insecure":              {"true", "1"},
	"file.path":                       {"routes.toml", "routes.yaml"},
	"file.watch":                      {"false", "0"},
	"http.endpoint":                   {"http://10.0.0.1/routes", "https://u:p@10.0.0.1/routes"},
	"http.poll_interval":              {"1s", "2s"},
	"http.poll_timeout":               {"1s", "2s"},
	"state.path":                      {"/var/lib/dill/state", "/tmp/state"},
	"shutdown.timeout":                {"0", "1s"},
	"debug.pprof":                     {"127.0.0.1:6060", "[::1]:6061"},
	"log.level":                       {"debug", "warn"},
	"log.format":                      {"json", "JSON"},
}

// typed writes a sample as a TOML, YAML, JSON and HCL literal.
func typed(s string) string {
	if _, err := strconv.ParseFloat(s, 64); err == nil || s == "true" || s == "false" {
		return s
	}
	return strconv.Quote(s)
}

// everyKey writes a file that sets every key to its first sample, but for
// those that exclude each other or name files that must exist.
func everyKey(t *testing.T, format string) (content string) {
	t.Helper()
	var b strings.Builder
	nested := map[string]any{}
	for _, k := range keys {
		if strings.Contains(k.Name, ".tls.c") || strings.HasSuffix(k.Name, ".tls.key") || k.Name == "consul.token_file" {
			continue
		}
		sample, ok := samples[k.Name]
		if !ok {
			t.Fatalf("no sample for %s", k.Name)
		}
		v := sample[0]
		switch format {
		case "env":
			fmt.Fprintf(&b, "%s=%q\n", envName(k.Name), v)
		case "properties":
			fmt.Fprintf(&b, "%s = %s\n", k.Name, v)
		case "toml": // dotted names
			fmt.Fprintf(&b, "%s = %s\n", k.Name, typed(v))
		default:
			m, parts := nested, strings.Split(k.Name, ".")
			for _, p := range parts[:len(parts)-1] {
				if m[p] == nil {
					m[p] = map[string]any{}
				}
				m = m[p].(map[string]any)
			}
			m[parts[len(parts)-1]] = v
		}
	}
	if b.Len() == 0 {
		writeTree(&b, format, nested, 0)
	}
	return b.String()
}

func writeTree(b *strings.Builder, format string, tree map[string]any, depth int) {
	indent := strings.Repeat("  ", depth)
	if format == "json" {
		b.WriteString("{\n")
		defer func() { b.WriteString(indent + "}\n") }()
	}
	names := slices.Sorted(maps.Keys(tree))
	for i, name := range names {
		inner, isTree := tree[name].(map[string]any)
		switch {
		case format == "json":
			fmt.Fprintf(b, "%s%q: ", indent, name)
		case format == "yaml":
			fmt.Fprintf(b, "%s%s: ", indent, name)
		case isTree:
			fmt.Fprintf(b, "%s%s {", indent, name)
		default:
			fmt.Fprintf(b, "%s%s = ", indent, name)
		}
		if isTree {
			if format != "json" {
				b.WriteByte('\n')
			}
			writeTree(b, format, inner, depth+1)
			if format == "hcl" {
				b.WriteString(indent + "}\n")
			}
		} else {
			b.WriteString(typed(tree[name].(string)) + "\n")
		}
		if format == "json" && i < len(names)-1 {
			b.WriteString(",")
		}
	}
}

func TestEveryKeyInEveryFormat(t *testing.T) {
	var first *Config
	for _, format := range []string{"toml", "yaml", "json", "hcl", "env", "properties"} {
		t.Run(format, func(t *testing.T) {
			c := mustLoad(t, write(t, "dill."+format, everyKey(t, format)))
			for _, k := range keys {
				if o := c.origins[k.Name]; o != c.path && !strings.Contains(k.Name, ".tls.") && k.Name != "consul.token_file" {
					t.Errorf("%s comes from %q, want the file", k.Name, o)
				}
			}
			if first == nil {
				first = c
			}
			for _, ch := range Changes(first, c) {
				t.Errorf("%s is %s in toml and %s in %s", ch.Key, ch.Old, ch.New, format)
			}
			if got := c.Sources(); !slices.Equal(got, []string{"file", "consul", "nomad", "http"}) {
				t.Errorf("sources %q", got)
			}
		})
	}
	if first.Listeners.PortMin != 2000 || first.Consul.Token != "s3cret-file" || first.Dataplane.Splice ||
		first.Listeners.Allowed["v6"] != addr("::1") || len(first.Listeners.Allowed) != 2 ||
		first.Listeners.RemovalShare != 0.25 || first.Log.Level != slog.LevelDebug {
		t.Errorf("got %#v", fields(*first))
	}
}

// Environment beats file beats default, key by key, under the plain name and
// under routing.
func TestPrecedenceOfEveryKey(t *testing.T) {
	pem := write(t, "x.pem", "")
	for _, k := range keys {
		for _, prefix := range []string{"", "routing."} {
			if prefix != "" && !isProvider(k.Name) {
				continue
			}
			t.Run(prefix+k.Name, func(t *testing.T) {
				inFile, inEnv := samples[k.Name][0], samples[k.Name][1]
				environ := []string{}
				extra := ""
				switch section := strings.TrimSuffix(strings.TrimSuffix(k.Name, "cert"), "key"); {
				case strings.HasSuffix(k.Name, "tls.ca"):
					inFile, inEnv = pem, filepath.Join(filepath.Dir(pem), ".", "x.pem")
				case section != k.Name && strings.HasSuffix(section, ".tls."):
					other := section + map[bool]string{true: "key", false: "cert"}[strings.HasSuffix(k.Name, "cert")]
					inFile, inEnv = pem, pem
					extra = fmt.Sprintf("%s = %q\n", prefix+other, pem)
				}
				path := write(t, "dill.toml", fmt.Sprintf("%s = %s\n%s", prefix+k.Name, typed(inFile), extra))

				c := mustLoad(t, path, environ...)
				var want Config
				if err := k.field(&want).set(inFile); err != nil {
					t.Fatal(err)
				}
				if got := k.field(c).literal(); got != k.field(&want).literal() || c.origins[k.Name] != path {
					t.Errorf("file: got %s from %q, want %s", got, c.origins[k.Name], inFile)
				}

				name := envPrefix + envName(prefix+k.Name)
				c = mustLoad(t, path, name+"="+inEnv)
				if err := k.field(&want).set(inEnv); err != nil {
					t.Fatal(err)
				}
				if got := k.field(c).literal(); got != k.field(&want).literal() || c.origins[k.Name] != name {
					t.Errorf("environment: got %s from %q, want %s", got, c.origins[k.Name], inEnv)
				}

				c = mustLoad(t, path, name+"=")
				if c.origins[k.Name] != path {
					t.Errorf("an empty variable counts: from %q", c.origins[k.Name])
				}
			})
		}
	}
}
