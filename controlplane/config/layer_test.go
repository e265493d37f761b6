package config

import (
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestMapReplacesDefault(t *testing.T) {
	only := map[string]netip.Addr{"internal": addr("192.168.10.10")}
	for _, tt := range []struct {
		name, file, content string
		environ             []string
	}{
		{name: "toml", file: "c.toml", content: "[listeners.allowed]\ninternal = '192.168.10.10'"},
		{name: "toml text", file: "c.toml", content: "listeners.allowed = 'internal=192.168.10.10'"},
		{name: "upper case", file: "c.toml", content: "[Listeners.Allowed]\nInternal = '192.168.10.10'"},
		{name: "yaml", file: "c.yml", content: "listeners: {allowed: {internal: 192.168.10.10}}"},
		{name: "hcl block", file: "c.hcl", content: "listeners { allowed { internal = \"192.168.10.10\" } }"},
		{name: "hcl attribute", file: "c.hcl", content: "listeners = { allowed = { internal = \"192.168.10.10\" } }"},
		{name: "hcl labelled block", file: "c.hcl", content: "listeners \"allowed\" { internal = \"192.168.10.10\" }"},
		{name: "hcl two blocks", file: "c.hcl", content: "listeners { port_min = 1024 }\nlisteners { allowed = { internal = \"192.168.10.10\" } }"},
		{name: "hcl json", file: "c.hcl", content: `{"listeners": {"allowed": {"internal": "192.168.10.10"}}}`},
		{name: "properties", file: "c.properties", content: "listeners.allowed.internal: 192.168.10.10"},
		{name: "properties pairs", file: "c.properties", content: "listeners.allowed = internal=192.168.10.10"},
		{name: "env file", file: "c.env", content: "LISTENERS_ALLOWED_INTERNAL=192.168.10.10"},
		{name: "env file prefix", file: "c.env", content: "export DILL_LISTENERS_ALLOWED_INTERNAL=192.168.10.10"},
		{name: "env file pairs", file: "c.env", content: "DILL_LISTENERS_ALLOWED=internal=192.168.10.10"},
		{name: "env file json", file: ".env", content: `DILL_LISTENERS_ALLOWED='{"internal": "192.168.10.10"}'`},
		{name: "env file dots", file: "c.env", content: "listeners.allowed.internal=192.168.10.10"},
		{name: "environment", environ: []string{"DILL_LISTENERS_ALLOWED=internal=192.168.10.10"}},
		{name: "environment json", environ: []string{`DILL_LISTENERS_ALLOWED={"internal":"192.168.10.10"}`}},
		{name: "environment entry", environ: []string{"DILL_LISTENERS_ALLOWED_INTERNAL=192.168.10.10"}},
		{name: "environment over file", file: "c.toml", content: "[listeners.allowed]\nx = '10.0.0.1'\ny = '10.0.0.2'",
			environ: []string{"DILL_LISTENERS_ALLOWED=internal=192.168.10.10"}},
		{name: "environment entry over file", file: "c.toml", content: "[listeners.allowed]\nx = '10.0.0.1'",
			environ: []string{"DILL_LISTENERS_ALLOWED_INTERNAL=192.168.10.10"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := ""
			if tt.file != "" {
				path = write(t, tt.file, tt.content)
			}
			if got := mustLoad(t, path, tt.environ...).Listeners.Allowed; !maps.Equal(got, only) {
				t.Errorf("got %v, want %v", got, only)
			}
		})
	}
}

func TestEnvFileNames(t *testing.T) {
	for _, name := range []string{
		"LISTENERS_PORT_MIN", "DILL_LISTENERS_PORT_MIN", "listeners.port_min", "listeners_port_min", "export LISTENERS_PORT_MIN",
	} {
		if c := mustLoad(t, write(t, "dill.env", name+"=2000\n")); c.Listeners.PortMin != 2000 {
			t.Errorf("%s: port_min = %d", name, c.Listeners.PortMin)
		}
	}
}

func TestRoutingPrefix(t *testing.T) {
	c := mustLoad(t, write(t, "c.toml", `
[routing.consul]
  address = "http://127.0.0.1:8501"
  token = "consul-communication-secret-token"
  datacenter = "foo-1"
  namespace = "bar-namespace"
  wait = "2m"
  consistency_mode = "leader"
[routing.nomad]
  address = "http://127.0.0.1:4647"
  wait = "5m"
  stale = true
[routing.nomad.tls]
  insecure = false
[routing.http]
  endpoint = "http://127.0.0.1:8000/config/routing.json"
[routing.file]
  path = "/etc/dill/routing.toml"
`), "DILL_ROUTING_NOMAD_NAMESPACE=spaces", "DILL_ROUTING_NOMAD_TLS_INSECURE=true")
	if got, want := c.Sources(), []string{"file", "consul", "nomad", "http"}; !slices.Equal(got, want) {
		t.Errorf("sources %q, want %q", got, want)
	}
	if c.Consul.Address != "http://127.0.0.1:8501" || c.Consul.ConsistencyMode != "leader" || c.Consul.Datacenter != "foo-1" ||
		c.Nomad.Namespace != "spaces" || !c.Nomad.Stale || !c.Nomad.TLS.Insecure || c.File.Path != "/etc/dill/routing.toml" {
		t.Errorf("got %#v", fields(*c))
	}
}

func TestSources(t *testing.T) {
	for _, tt := range []struct {
		name, content string
		environ       []string
		want          string
	}{
		{name: "none", want: "consul"},
		{name: "file", content: "file.path = 'r.toml'", want: "file"},
		{name: "http", content: "http.endpoint = '127.0.0.1:80'", want: "http"},
		{name: "nomad", content: "nomad.stale = true", want: "nomad"},
		{name: "file and consul", content: "file.path = 'r.toml'\nconsul.settle = '1s'", want: "file consul"},
		{name: "empty section", content: "[file]\npath = 'r.toml'\n[consul]", want: "file consul"},
		{name: "empty routing section", content: "[file]\npath = 'r.toml'\n[routing.consul]", want: "file consul"},
		{name: "environment", content: "file.path = 'r.toml'", environ: []string{"DILL_CONSUL_ALLOW_WARNING=0"}, want: "file consul"},
		{name: "Consul's variables do not count", content: "file.path = 'r.toml'",
			environ: []string{"CONSUL_HTTP_ADDR=not an address", "CONSUL_HTTP_SSL=maybe"}, want: "file"},
		{name: "file.watch alone", content: "file.watch = false", want: "consul"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := strings.Join(mustLoad(t, write(t, "c.toml", tt.content), tt.environ...).Sources(), " ")
			if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestConsulVariables(t *testing.T) {
	pem := write(t, "x.pem", "")
	standard := []string{
		"CONSUL_HTTP_ADDR=consul.example:8501", "CONSUL_HTTP_TOKEN=t0", "CONSUL_HTTP_SSL=true", "CONSUL_HTTP_SSL_VERIFY=false",
		"CONSUL_CACERT=" + pem, "CONSUL_CLIENT_CERT=" + pem, "CONSUL_CLIENT_KEY=" + pem, "CONSUL_NAMESPACE=ns", "CONSUL_PARTITION=p",
		"CONSUL_TLS_SERVER_NAME=name",
	}
	want := defaults()
	want.Consul.Address, want.Consul.Token = "https://consul.example:8501", "t0"
	want.Consul.Namespace, want.Consul.Partition = "ns", "p"
	want.Consul.TLS = TLS{CA: pem, Cert: pem, Key: pem, ServerName: "name", Insecure: true}
	same(t, mustLoad(t, "", standard...), want)

	c := mustLoad(t, write(t, "c.toml", "consul.address = 'http://10.0.0.1:8500'\nconsul.tls.insecure = false"),
		append(standard, "DILL_CONSUL_NAMESPACE=mine")...)
	if c.Consul.Address != "http://10.0.0.1:8500" || c.Consul.Namespace != "mine" || c.Consul.TLS.Insecure {
		t.Errorf("file and DILL_ do not beat Consul's variables: %#v", fields(*c))
	}

	for _, tt := range []struct {
		name, content string
		environ       []string
		token, file   string
	}{
		{"file wins within Consul's", "", []string{"CONSUL_HTTP_TOKEN=a", "CONSUL_HTTP_TOKEN_FILE=/f"}, "", "/f"},
		{"own token beats file of Consul's", "consul.token = 'mine'", []string{"CONSUL_HTTP_TOKEN_FILE=/f"}, "mine", ""},
		{"own file beats token of Consul's", "consul.token_file = '/mine'", []string{"CONSUL_HTTP_TOKEN=a"}, "", "/mine"},
		{"environment beats file", "consul.token_file = '/mine'", []string{"DILL_CONSUL_TOKEN=a"}, "a", ""},
	} {
		c := mustLoad(t, write(t, "c.toml", tt.content), tt.environ...)
		if string(c.Consul.Token) != tt.token || c.Consul.TokenFile != tt.file {
			t.Errorf("%s: token %q, file %q", tt.name, c.Consul.Token, c.Consul.TokenFile)
		}
	}
}

// A Kubernetes service called dill puts such variables into every container.
func TestServiceLinksAreNotUnknown(t *testing.T) {
	mustLoad(t, "", "DILL_SERVICE_HOST=10.0.0.1", "DILL_SERVICE_PORT=4444", "DILL_PEEK_SERVICE_PORT_HTTP=1", "DILL_PORT=tcp://10.0.0.1:4444",
		"DILL_PORT_4444_TCP=tcp://10.0.0.1:4444", "DILL_PORT_4444_TCP_PROTO=tcp", "DILL_PORT_4444_TCP_PORT=4444",
		"DILL_PORT_4444_TCP_ADDR=10.0.0.1", "OTHER=1", "DILL_EMPTY=")
}

func TestSpecialFiles(t *testing.T) {
	mustLoad(t, write(t, "c.toml", "\ufefflisteners.port_min = 1024"))
	mustLoad(t, write(t, "c.json", "{}"))
	mustLoad(t, write(t, "c.yaml", ""))
	mustLoad(t, write(t, "c.yaml", "consul:\n  token:\nlisteners:\n"))
	mustLoad(t, write(t, "C.TOML", ""))
	if c := mustLoad(t, write(t, "c.json", `{"listeners.port_min": 1.1e3}`)); c.Listeners.PortMin != 1100 {
		t.Errorf("port_min = %d", c.Listeners.PortMin)
	}
	if c := mustLoad(t, write(t, "c.properties", "consul.token = ${HOME}-x")); c.Consul.Token != "${HOME}-x" {
		t.Errorf("properties expand references: %q", c.Consul.Token)
	}
	c := mustLoad(t, write(t, "c.hcl", "dataplane { max_connections = \"auto\" splice = false }\nlisteners.removal_share = 0.75"))
	if c.Dataplane.MaxConnections != AutoConnections || c.Dataplane.Splice || c.Listeners.RemovalShare != 0.75 {
		t.Errorf("got %#v", fields(*c))
	}
	link := filepath.Join(t.TempDir(), "link.toml")
	if err := os.Symlink("/dev/zero", link); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadWith(link, nil); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("endless file: %v", err)
	}
	long := write(t, "c.toml", strings.Repeat("#", fileMost+1))
	if _, err := LoadWith(long, nil); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("long file: %v", err)
	}
}
