package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Every kind of broken configuration gets one line that names the place, the
// key, the value and what is accepted.
func TestRefusals(t *testing.T) {
	for _, tt := range []struct {
		name, file, content string
		environ             []string
		want                string // FILE stands for the path
	}{
		{name: "unknown key", file: "c.toml", content: "listeners.port_mim = 5",
			want: "FILE: listeners.port_mim: unknown key, did you mean listeners.port_min?"},
		{name: "unknown key in a section", file: "c.yaml", content: "peek: {colour: blue}",
			want: `FILE: peek.colour: unknown key; peek has listener`},
		{name: "unknown section", file: "c.json", content: `{"frontend": {"port": 1}}`,
			want: "FILE: frontend.port: unknown key; the sections are listeners, peek, runtime, dataplane, consul, nomad, file, http, state, shutdown, log, debug"},
		{name: "unknown under routing", file: "c.toml", content: "routing.etcd.address = 'x'",
			want: `FILE: routing.etcd.address: unknown key; the sections are listeners, peek, runtime, dataplane, consul, nomad, file, http, state, shutdown, log, debug`},
		{name: "unknown in env file", file: "c.env", content: "LISTENER_PORT_MIN=5",
			want: `FILE: LISTENER_PORT_MIN: unknown key, did you mean listeners.port_min?`},
		{name: "unknown secret", file: "c.toml", content: "consul.tokn = 's3cret'",
			want: `FILE: consul.tokn: unknown key, did you mean consul.token?`},
		{name: "unknown secret by name", file: "c.toml", content: "vault.password = 's3cret'",
			want: `FILE: vault.password: unknown key; the sections are listeners, peek, runtime, dataplane, consul, nomad, file, http, state, shutdown, log, debug`},
		{name: "unknown variable", environ: []string{"DILL_LISTENERS_PORTMIN=5"},
			want: `environment: DILL_LISTENERS_PORTMIN: unknown variable, did you mean DILL_LISTENERS_PORT_MIN?`},
		{name: "unknown secret variable", environ: []string{"DILL_CONSUL_TOKN=s3cret"},
			want: `environment: DILL_CONSUL_TOKN: unknown variable, did you mean DILL_CONSUL_TOKEN?`},
		{name: "unknown variable, far off", environ: []string{"DILL_HOME=/opt"},
			want: `environment: DILL_HOME: unknown variable, the reference lists those that dill reads`},

		{name: "text for a number", file: "c.toml", content: "listeners.port_min = 'low'",
			want: `FILE: listeners.port_min = "low": want a whole number from 1 to 65535`},
		{name: "fraction for a number", file: "c.json", content: `{"listeners": {"port_min": 1024.5}}`,
			want: "FILE: listeners.port_min = 1024.5: want a whole number from 1 to 65535"},
		{name: "number out of range", file: "c.yaml", content: "listeners:\n  port_max: 65536",
			want: "FILE: listeners.port_max = 65536: want a whole number from 1 to 65535"},
		{name: "list", file: "c.hcl", content: "listeners { port_min = [1, 2] }",
			want: "FILE: listeners.port_min = a list: want a whole number from 1 to 65535"},
		{name: "section for a value", file: "c.toml", content: "[peek.listener]\nport = 1",
			want: `FILE: peek.listener = a section: want an IP address and port such as 127.0.0.1:2323 or [::1]:2323, or nothing`},
		{name: "value for a section", file: "c.toml", content: "peek = '127.0.0.1:2323'",
			want: `FILE: peek: want a section with the keys listener`},
		{name: "number for text", file: "c.yaml", content: "consul: {datacenter: 1}",
			want: "FILE: consul.datacenter: want text without control characters (numbers need quotes)"},
		{name: "number for a secret", file: "c.yaml", content: "consul: {token: 12345}",
			want: `FILE: consul.token = "***": want text without control characters (numbers need quotes)`},
		{name: "no boolean", file: "c.yaml", content: "file: {watch: maybe}",
			want: `FILE: file.watch: want true or false`},
		{name: "bare duration", file: "c.toml", content: "listeners.linger = 30",
			want: "FILE: listeners.linger = 30: want a duration such as 30s, 5m or 1h30m"},
		{name: "negative duration", file: "c.toml", content: "listeners.linger = '-1s'",
			want: `FILE: listeners.linger = "-1s": want a duration such as 30s, 5m or 1h30m`},
		{name: "short wait", file: "c.toml", content: "consul.wait = '999ms'",
			want: `FILE: consul.wait = "999ms": want a duration such as 30s, 5m or 1h30m, at least 1s`},
		{name: "query of an API", file: "c.toml", content: "nomad.address = 'http://127.0.0.1:4646/?pw=s3cret'",
			want: `FILE: nomad.address = "http://127.0.0.1:4646/?pw=***": want a URL such as http://127.0.0.1:8500, with http or https before :// and no query`},
		{name: "fragment", file: "c.toml", content: "http.endpoint = 'http://127.0.0.1/routes#s3cret'",
			want: `FILE: http.endpoint = "http://127.0.0.1/routes#***": want a URL such as http://127.0.0.1:8500, with http or https before ://, or nothing`},
		{name: "no share", file: "c.toml", content: "listeners.removal_share = nan",
			want: "FILE: listeners.removal_share = NaN: want a number from 0 to 1"},
		{name: "no size", file: "c.toml", content: "dataplane.pipe_size = '1 potato'",
			want: `FILE: dataplane.pipe_size = "1 potato": want a size such as 64KiB or 1MiB, from 64KiB to 1GiB`},
		{name: "a pipe that would never be used", file: "c.toml", content: "dataplane.pipe_size = '32KiB'",
			want: `FILE: dataplane.pipe_size = "32KiB": want a size such as 64KiB or 1MiB, from 64KiB to 1GiB`},
		{name: "no choice", file: "c.toml", content: "log.format = 'xml'",
			want: `FILE: log.format: want auto, text or json`},
		{name: "no level", environ: []string{"DILL_LOG_LEVEL=loud"},
			want: `DILL_LOG_LEVEL: log.level: want debug, info, warn or error`},
		{name: "control character", environ: []string{"DILL_CONSUL_DATACENTER=a\nb"},
			want: `DILL_CONSUL_DATACENTER: consul.datacenter: want text without control characters (numbers need quotes)`},

		{name: "URL without the @ it was to have", file: "c.toml", content: "consul.address = 'http://me:s3cret127.0.0.1:8500'",
			want: `FILE: consul.address = "http://***": want a URL such as http://127.0.0.1:8500, with http, https or unix before :// and no query`},
		{name: "token in two lines", file: "c.properties", content: "consul.token = abc\ns3cret",
			want: `FILE: unknown key; the sections are listeners, peek, runtime, dataplane, consul, nomad, file, http, state, shutdown, log, debug`},
		{name: "padded token in two lines", file: "c.env", content: "DILL_CONSUL_TOKEN=abc\ns3cret==",
			want: `FILE: unknown key; the sections are listeners, peek, runtime, dataplane, consul, nomad, file, http, state, shutdown, log, debug`},
		{name: "value in the name", file: "c.yaml", content: "consul: {'tokn = s3cret': 1}",
			want: `FILE: consul.tokn…: unknown key; consul has ` + within("consul")},

		{name: "no address", file: "c.toml", content: "peek.listener = 'nonsense'",
			want: `FILE: peek.listener = "nonsense": want an IP address and port such as 127.0.0.1:2323 or [::1]:2323, or nothing`},
		{name: "no port", environ: []string{"DILL_PEEK_LISTENER=127.0.0.1:99999"},
			want: `DILL_PEEK_LISTENER: peek.listener = "127.0.0.1:99999": want an IP address and port such as 127.0.0.1:2323 or [::1]:2323, or nothing`},
		{name: "no URL", file: "c.toml", content: "consul.address = 'http://256.0.0.1:8500'",
			want: `FILE: consul.address = "http://256.0.0.1:8500": want a URL such as http://127.0.0.1:8500, with http, https or unix before :// and no query`},
		{name: "empty URL", file: "c.toml", content: "consul.address = ''",
			want: `FILE: consul.address = "": want a URL such as http://127.0.0.1:8500, with http, https or unix before :// and no query`},
		{name: "password in a bad URL", file: "c.toml", content: "http.endpoint = 'ftp://me:s3cret@10.0.0.1'",
			want: `FILE: http.endpoint = "ftp://***@10.0.0.1": want a URL such as http://127.0.0.1:8500, with http or https before ://, or nothing`},
		{name: "bad URL of Consul's", environ: []string{"CONSUL_HTTP_ADDR=http://:8500"},
			want: `CONSUL_HTTP_ADDR: consul.address = "http://:8500": want a URL such as http://127.0.0.1:8500, with http, https or unix before :// and no query`},
		{name: "CONSUL_HTTP_SSL", environ: []string{"CONSUL_HTTP_SSL=maybe"},
			want: `CONSUL_HTTP_SSL: want true or false`},

		{name: "label without address", file: "c.toml", content: "listeners.allowed.local = 'localhost.example'",
			want: `FILE: listeners.allowed.local = "localhost.example": want an IP address of this host, such as 127.0.0.1, 0.0.0.0 or ::1, or localhost`},
		{name: "label with port", environ: []string{"DILL_LISTENERS_ALLOWED=local=127.0.0.1:80"},
			want: `DILL_LISTENERS_ALLOWED: listeners.allowed.local = "127.0.0.1:80": want an IP address of this host, such as 127.0.0.1, 0.0.0.0 or ::1, or localhost`},
		{name: "number for an address", file: "c.json", content: `{"listeners": {"allowed": {"local": 1}}}`,
			want: "FILE: listeners.allowed.local = 1: want an IP address of this host, such as 127.0.0.1, 0.0.0.0 or ::1, or localhost"},
		{name: "label that does not print", file: "c.yaml", content: "listeners: {allowed: {\"a\\tb\": 127.0.0.1}}",
			want: `FILE: listeners.allowed.a b = "127.0.0.1": want a label of characters that print, at most 255 bytes of them`},
		{name: "label of two words that each have an address", file: "c.toml", content: "[listeners.allowed]\na.b = '127.0.0.1'\n'a.b' = '127.0.0.2'",
			want: `FILE: listeners.allowed.a.b = "127.0.0.2": a setting only once; it is also set as listeners.allowed`},
		{name: "brackets around IPv4", environ: []string{"DILL_LISTENERS_ALLOWED=local=[127.0.0.1]"},
			want: `DILL_LISTENERS_ALLOWED: listeners.allowed.local = "[127.0.0.1]": want an IP address of this host, such as 127.0.0.1, 0.0.0.0 or ::1, or localhost`},
		{name: "no labels", file: "c.toml", content: "[listeners.allowed]",
			want: `FILE: listeners.allowed = a section: want labels and IP addresses, as a map, as JSON or as "local=127.0.0.1,any=0.0.0.0"`},
		{name: "no pairs", environ: []string{"DILL_LISTENERS_ALLOWED=127.0.0.1"},
			want: `DILL_LISTENERS_ALLOWED: listeners.allowed = "127.0.0.1": want labels and IP addresses, as a map, as JSON or as "local=127.0.0.1,any=0.0.0.0"`},
		{name: "a label twice", file: "c.json", content: `{"listeners": {"allowed": {"a": "127.0.0.1", "A": "127.0.0.2"}}}`,
			want: `FILE: listeners.allowed.a = "127.0.0.1": a setting only once; it is also set as listeners.allowed`},

		{name: "ports crossed", file: "c.toml", content: "listeners.port_min = 5000\nlisteners.port_max = 4000",
			want: "FILE: listeners.port_min = 5000: want at most listeners.port_max, which is 4000"},
		{name: "port_max below the default", environ: []string{"DILL_LISTENERS_PORT_MAX=80"},
			want: "DILL_LISTENERS_PORT_MAX: listeners.port_max = 80: want at least listeners.port_min, which is 1024"},
		{name: "set twice by the alias", file: "c.toml", content: "consul.wait = '1s'\nrouting.consul.wait = '2s'",
			want: `FILE: routing.consul.wait = "2s": a setting only once; it is also set as consul.wait`},
		{name: "set twice in the environment", environ: []string{"DILL_CONSUL_WAIT=1s", "DILL_ROUTING_CONSUL_WAIT=1s"},
			want: `DILL_ROUTING_CONSUL_WAIT: consul.wait = "1s": a setting only once; it is also set as DILL_CONSUL_WAIT`},
		{name: "set twice in HCL", file: "c.hcl", content: "peek { listener = \"\" }\npeek { listener = \"\" }",
			want: "FILE: want valid HCL: line 2, column 8: listener is set twice"},
		{name: "no routing file", file: "c.toml", content: "routing.file.path = 'routes.ini'",
			want: `FILE: routing.file.path = "routes.ini": want a name that ends in .toml, .yaml, .yml or .json`},
		{name: "token twice", file: "c.toml", content: "consul.token = 's3cret'\nconsul.token_file = '/t'",
			want: `FILE: consul.token_file = "/t": want either this or consul.token`},
		{name: "half a key pair", file: "c.toml", content: "consul.tls.cert = 'x'",
			want: `FILE: consul.tls.cert = "x": want consul.tls.key, too`},
		{name: "unreadable certificate", file: "c.toml", content: "nomad.tls.ca = '/nowhere/ca.pem'",
			want: `FILE: nomad.tls.ca = "/nowhere/ca.pem": want a PEM file that can be read: open: no such file or directory`},
		{name: "directory as certificate", environ: []string{"CONSUL_CACERT=/"},
			want: `CONSUL_CACERT: consul.tls.ca = "/": want a PEM file that can be read: not a regular file`},

		{name: "format", file: "dill.conf", content: "",
			want: "FILE: want a file name that ends in .toml, .yaml, .yml, .json, .hcl, .env or .properties"},
		{name: "toml syntax", file: "c.toml", content: "[peek]\nlistener = s3cret",
			want: "FILE: want valid TOML: line 2, column 12: incomplete number; want key = value, with text in quotes"},
		{name: "yaml syntax", file: "c.yaml", content: "peek: [",
			want: "FILE: want valid YAML: line 1: "},
		{name: "json syntax", file: "c.json", content: "{\n\"peek\": s3cret}",
			want: "FILE: want valid JSON: line 2, column 9: invalid character 's' looking for beginning of value"},
		{name: "hcl syntax", file: "c.hcl", content: "peek {", want: "FILE: want valid HCL: "},
		{name: "env syntax", file: "c.env", content: "export s3cret", want: "FILE: want valid env file lines: "},
		{name: "hcl without quotes", file: "c.hcl", content: "consul {\n  token = s3cret\n}", want: "FILE: want valid HCL: line 2, column 11: "},
		{name: "hcl without =", file: "c.hcl", content: `consul { token "s3cret" }`, want: "FILE: want valid HCL: line 1, column 25: "},
		{name: "hcl number", file: "c.hcl", content: "consul { token = 1e999 }", want: "FILE: want valid HCL: "},
		{name: "yaml alias", file: "c.yaml", content: "consul:\n  token: *s3cret", want: "FILE: want valid YAML: line 2, column 10: unknown anchor; want key: value, with text in quotes where it has special characters"},
		{name: "env backtick", file: "c.env", content: "A=1\nTOKEN `s3cret` s3cret", want: "FILE: want valid env file lines: line 2: "},
		{name: "secret as a word", file: "c.toml", content: "consul.consistency_mode = 's3cret'",
			want: "FILE: consul.consistency_mode: want default, consistent, stale or leader"},
		{name: "secret as a list", file: "c.toml", content: "listeners.port_min = ['s3cret']",
			want: "FILE: listeners.port_min = a list: want a whole number from 1 to 65535"},
		{name: "key instead of its file", file: "c.yaml", content: "consul: {tls: {key: \"-----BEGIN\\ns3cret\"}}",
			want: "FILE: consul.tls.key: want text without control characters (numbers need quotes)"},
		{name: "secret set twice", environ: []string{"DILL_NOMAD_STALE=s3cret", "DILL_ROUTING_NOMAD_STALE=s3cret"},
			want: "DILL_ROUTING_NOMAD_STALE: nomad.stale: a setting only once; it is also set as DILL_NOMAD_STALE"},
		{name: "properties syntax", file: "c.properties", content: "a = \\u00", want: "FILE: want valid Java properties: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := ""
			if tt.file != "" {
				path = write(t, tt.file, tt.content)
			}
			_, err := LoadWith(path, tt.environ)
			if _, ok := errors.AsType[*Error](err); !ok {
				t.Fatalf("got %v, want an *Error", err)
			}
			got, want := err.Error(), strings.Replace(tt.want, "FILE", path, 1)
			if got != want && !(strings.HasSuffix(want, ": ") && strings.HasPrefix(got, want)) {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			if strings.ContainsAny(got, "\n\r") {
				t.Errorf("more than one line: %q", got)
			}
			if strings.Contains(got, "s3cret") {
				t.Errorf("a secret is shown: %s", got)
			}
		})
	}
}

func TestUnreadableFile(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "c.toml")
	if _, err := LoadWith(missing, nil); err == nil || err.Error() != missing+": open: no such file or directory" {
		t.Errorf("missing file: %v", err)
	}
	dir := filepath.Join(t.TempDir(), "c.toml")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(t.TempDir(), "f.toml")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, fifo} {
		if _, err := LoadWith(path, nil); err == nil || err.Error() != path+": not a regular file" {
			t.Errorf("no file: %v", err)
		}
		// Certificates are read at the start and at each reload.
		set := write(t, "c.toml", "consul.tls.ca = '"+path+"'")
		if _, err := LoadWith(set, nil); err == nil || !strings.Contains(err.Error(), "want a PEM file that can be read: not a regular file") {
			t.Errorf("no certificate: %v", err)
		}
	}
}
