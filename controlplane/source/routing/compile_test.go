package routing_test

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"dill/controlplane/compile"
	"dill/controlplane/source"
	"dill/controlplane/source/routing"
)

// compiled is what becomes of a document: a line for each listener with its
// backends, then one for each refusal.
func compiled(t *testing.T, f routing.Format, data []byte) string {
	t.Helper()
	doc, err := routing.Decode(f, data)
	if err != nil {
		t.Fatal(err)
	}
	r := compile.Compile(compile.Options{
		Allowed: map[string]netip.Addr{"local": netip.MustParseAddr("127.0.0.1"), "any": netip.IPv4Unspecified()},
		PortMin: 1024, PortMax: 49151,
	}, compile.Input{
		Snapshots: []source.Snapshot{{Source: "file", Services: doc.Services, Synced: true}},
		Hosts: func(string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("10.9.9.9")}, nil
		},
	})
	var b strings.Builder
	for _, l := range r.Listeners {
		fmt.Fprintf(&b, "%s %s %s", l.Addr, l.Owner, l.Strategy)
		for _, to := range l.Backends {
			fmt.Fprintf(&b, " %s*%d", to.Target(), to.Weight)
			if to.Socks != nil {
				fmt.Fprintf(&b, " by %s", to.Socks.Addr)
			}
		}
		b.WriteString("\n")
	}
	for _, r := range r.Refused {
		fmt.Fprintf(&b, "refused %s %s %s: %s\n", r.Service, r.Instance, r.Claim, r.Reason)
	}
	return b.String()
}

func TestDocumentsCompile(t *testing.T) {
	for _, tt := range []struct{ file, want string }{
		{"original.toml", "127.0.0.1:1234 file/foo round_robin 127.0.0.1:5050*1 by 127.0.0.1:1080\n"},
		{"full.toml", `127.0.0.1:5432 file/db round_robin 10.0.0.9:5432*1
127.0.0.1:8080 file/web least_conn web.internal:80*5 by 10.0.0.1:1080 10.0.0.7:80*2 [fd00::7]:80*2
0.0.0.0:8081 file/web least_conn web.internal:80*5 by 10.0.0.1:1080 10.0.0.7:80*2 [fd00::7]:80*2
`},
	} {
		f, _ := routing.FormatOf(tt.file)
		data, err := os.ReadFile("testdata/" + tt.file)
		if err != nil {
			t.Fatal(err)
		}
		got := compiled(t, f, data)
		for line := range strings.Lines(tt.want) {
			if !strings.Contains(got, line) {
				t.Errorf("%s: no line %q in\n%s", tt.file, line, got)
			}
		}
		if strings.Count(got, "\n") != strings.Count(tt.want, "\n") {
			t.Errorf("%s: got\n%s\nwant\n%s", tt.file, got, tt.want)
		}
	}
}

// TestBackendListedTwice: it has twice the share of the others, by weights too.
func TestBackendListedTwice(t *testing.T) {
	for doc, want := range map[string]string{
		`{"services": [{"name": "a", "listener": "local:2000", "backends": ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.1:80"]}]}`:                                                        "10.0.0.1:80*2 10.0.0.2:80*1\n",
		`{"services": [{"name": "a", "listener": "local:2000", "weight": 3, "backends": ["10.0.0.1:80", "10.0.0.1:80", {"address": "10.0.0.1:80", "weight": 1}]}]}`:                 "10.0.0.1:80*7\n",
		`{"services": [{"name": "a", "listener": "local:2000", "backends": ["10.0.0.1:80"]}, {"name": "a", "listener": "local:2000", "backends": ["10.0.0.1:80", "10.0.0.2:80"]}]}`: "10.0.0.1:80*2 10.0.0.2:80*1\n",
	} {
		if got := compiled(t, routing.JSON, []byte(doc)); got != "127.0.0.1:2000 file/a round_robin "+want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// Whatever is wrong with an entry, it is refused where everybody sees it, and
// its neighbour is served.
func TestEveryMistakeIsRefusedVisibly(t *testing.T) {
	for name, entry := range map[string]string{
		"no port":            `{"name": "bad", "listener": "local:2000", "backends": ["10.0.0.1"]}`,
		"bad port":           `{"name": "bad", "listener": "local:2000", "backends": ["10.0.0.1:http"]}`,
		"no host":            `{"name": "bad", "listener": "local:2000", "backends": [":80"]}`,
		"no brackets":        `{"name": "bad", "listener": "local:2000", "backends": ["fd00::1:80"]}`,
		"backend a number":   `{"name": "bad", "listener": "local:2000", "backends": [80]}`,
		"backend a list":     `{"name": "bad", "listener": "local:2000", "backends": [[]]}`,
		"no backends":        `{"name": "bad", "listener": "local:2000"}`,
		"no listener":        `{"name": "bad", "backends": "10.0.0.1:80"}`,
		"listener no label":  `{"name": "bad", "listener": 2000, "backends": "10.0.0.1:80"}`,
		"listener a table":   `{"name": "bad", "listener": {"port": 2000}, "backends": "10.0.0.1:80"}`,
		"port out of range":  `{"name": "bad", "listener": "local:80", "backends": "10.0.0.1:80"}`,
		"no name":            `{"listener": "local:2000", "backends": "10.0.0.1:80"}`,
		"no table":           `17`,
		"allow of no use":    `{"name": "bad", "listener": "local:2000", "backends": "10.0.0.1:80", "allow": []}`,
		"allow a table":      `{"name": "bad", "listener": "local:2000", "backends": "10.0.0.1:80", "allow": {"cidr": "10.0.0.0/8"}}`,
		"allow empty":        `{"name": "bad", "listener": "local:2000", "backends": "10.0.0.1:80", "allow": null}`,
		"proxy a list":       `{"name": "bad", "listener": "local:2000", "backends": "10.0.0.1:80", "proxy": []}`,
		"no proxy protocol":  `{"name": "bad", "listener": "local:2000", "backends": "10.0.0.1:80", "proxy_protocol": ""}`,
		"control characters": `{"name": "bad", "listener": "local:2000\n", "backends": "10.0.0.1:80"}`,
		"long listener":      `{"name": "bad", "listener": "local:` + strings.Repeat("2", 10000) + `", "backends": "10.0.0.1:80"}`,
	} {
		t.Run(name, func(t *testing.T) {
			got := compiled(t, routing.JSON, []byte(`{"services": [`+entry+`, {"name": "good", "listener": "local:1500", "backends": "10.0.0.1:80"}]}`))
			if !strings.HasPrefix(got, "127.0.0.1:1500 file/good round_robin 10.0.0.1:80*1\n") || !strings.Contains(got, "refused file/") {
				t.Errorf("compiled to\n%s", got)
			}
			for line := range strings.Lines(got) {
				if strings.HasPrefix(line, "127.0.0.1:2000") && len(strings.Fields(line)) > 3 {
					t.Errorf("the bad entry is served: %s", line)
				}
			}
		})
	}
}

// TestOneTrueReason: a mistake is told once, by the one who knows what it is.
func TestOneTrueReason(t *testing.T) {
	for entry, want := range map[string]string{
		`{"name": "bad", "listener": "local:2000", "backends": "a:1, b:2"}`:          `bad bad/a:1, b:2 : line 1: backends[0]: "a:1, b:2" is more than one address; want "host:port"`,
		`{"name": "bad", "listener": "local:2000", "backends": "::1:8001"}`:          `bad bad/::1:8001 : line 1: backends[0]: "::1:8001" has too many colons (an IPv6 address stands in brackets); want "host:port"`,
		`{"name": "bad", "listener": "local:2000", "backends": "tcp://10.0.0.1:80"}`: `bad bad/tcp://10.0.0.1:80 : line 1: backends[0]: "tcp://10.0.0.1:80" is a URL; want "host:port"`,
		`{"name": "bad", "listener": "local:2000", "backends": "10.0.0.1"}`:          `bad bad/10.0.0.1 : line 1: backends[0]: "10.0.0.1" has no port; want "host:port"`,
		`{"listener": "local:2000", "backends": "10.0.0.1:80"}`:                      `services[0]  : line 1: name: missing; want a name`,
		`{"name": "bad", "listener": "local:2000"}`:                                  `bad services[0] : line 1: backends: missing; want a list of "host:port"`,
		`{"name": "bad", "backends": "10.0.0.1:80"}`:                                 `bad bad/10.0.0.1:80 dill.listener: line 1: listener: missing; want "label:port" or a list of them`,
		`{"name": "bad", "listener": "local:2000", "backends": "10.0.0.1:80", "proxy": {}}`: `bad bad/10.0.0.1:80 dill.proxy: ` +
			`line 1: proxy: a table; want a string or a number; the instance is not served without it`,
		`{"name": "bad", "listener": "local:2000", "backends": {"address": "10.0.0.1:80", "weight": []}}`: `bad bad/10.0.0.1:80 dill.weight: ` +
			`line 1: backends[0].weight: a list; want a string or a number; the default holds`,
		`{"name": "bad", "listener": "local:2000, any:2001", "backends": "10.0.0.1:80"}`: `bad bad/10.0.0.1:80 dill.listener=local:2000, any:2001: several in one tag; want a tag for each listener`,
	} {
		var refused []string
		for line := range strings.Lines(compiled(t, routing.JSON, []byte(`{"services": [`+entry+`]}`))) {
			if r, ok := strings.CutPrefix(line, "refused file/"); ok {
				refused = append(refused, strings.TrimSpace(r))
			}
		}
		if len(refused) != 1 || refused[0] != want {
			t.Errorf("%s is refused %q, want once %q", entry, refused, want)
		}
	}
}

func TestUnknownFieldsAreShown(t *testing.T) {
	got := compiled(t, routing.TOML, []byte("[[services]]\nname='a'\nlistener='local:2000'\nbackends=['10.0.0.1:80']\nstratgey='secret'\n"))
	if !strings.Contains(got, "dill.stratgey") || strings.Contains(got, "secret") || !strings.HasPrefix(got, "127.0.0.1:2000 file/a") {
		t.Errorf("compiled to\n%s", got)
	}
}
