package routing

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"dill/controlplane/source"
)

// good is an entry that must survive whatever its neighbour is.
const good = `{"name": "good", "listener": "local:1", "backends": ["10.0.0.1:1"]}`

// show writes services like "web: web/10.0.0.1:80 10.0.0.1 80 [dill …]", one
// instance a line.
func show(services []source.Service) string {
	var lines []string
	for _, s := range services {
		for _, in := range s.Instances {
			lines = append(lines, fmt.Sprintf("%s: %s, %q %d %v", s.Name, in.ID, in.Host, in.Port, in.Tags))
		}
	}
	return strings.Join(lines, "\n")
}

func TestOneBadEntryKeepsTheOthers(t *testing.T) {
	for _, tt := range []struct {
		name    string
		entry   string
		want    string   // what is left of the entry, for compile to refuse
		problem []string // each one's text
	}{
		{
			"backend without port",
			`{"name": "web", "listener": "local:80", "backends": ["10.0.0.1", "10.0.0.2:80"]}`,
			"web: web/10.0.0.1, \"10.0.0.1\" 0 [dill dill.listener=local:80]\n" +
				`web: web/10.0.0.2:80, "10.0.0.2" 80 [dill dill.listener=local:80]`,
			[]string{`line 2: services[0] "web": backends[0]: "10.0.0.1" has no port; want "host:port"`},
		},
		{
			"backend with a bad port",
			`{"name": "web", "listener": "local:80", "backends": ["10.0.0.1:http"]}`,
			`web: web/10.0.0.1:http, "10.0.0.1" 0 [dill dill.listener=local:80]`,
			[]string{`line 2: services[0] "web": backends[0]: "10.0.0.1:http" has the port "http", which is not within 1..65535; want "host:port"`},
		},
		{
			"IPv6 without brackets",
			`{"name": "web", "listener": "local:80", "backends": ["fd00::1:80"]}`,
			`web: web/fd00::1:80, "fd00::1:80" 0 [dill dill.listener=local:80]`,
			[]string{`line 2: services[0] "web": backends[0]: "fd00::1:80" has too many colons (an IPv6 address stands in brackets); want "host:port"`},
		},
		{
			"backend without host",
			`{"name": "web", "listener": "local:80", "backends": [":80"]}`,
			`web: web/:80, "" 80 [dill dill.listener=local:80]`,
			[]string{`line 2: services[0] "web": backends[0]: ":80" has no host; want "host:port"`},
		},
		{
			"backend of the wrong kind",
			`{"name": "web", "listener": "local:80", "backends": [8080, ["10.0.0.1:80"], {"weight": 2}]}`,
			"web: web/8080, \"8080\" 0 [dill dill.listener=local:80]\n" +
				"web: web/backends[1], \"\" 0 [dill dill.listener=local:80]\n" +
				`web: web/backends[2].address, "" 0 [dill dill.listener=local:80 dill.weight=2]`,
			[]string{
				`line 2: services[0] "web": backends[0]: "8080" has no port; want "host:port"`,
				`line 2: services[0] "web": backends[1]: a list; want "host:port"`,
				`line 2: services[0] "web": backends[2].address: missing; want "host:port"`,
			},
		},
		{
			"no backends",
			`{"name": "web", "listener": "local:80", "backends": []}`,
			`web: services[0], "" 0 [dill]`,
			[]string{`line 2: services[0] "web": backends: an empty list; want a list of "host:port"`},
		},
		{
			"several backends in one",
			`{"name": "web", "listener": "local:80", "backends": "10.0.0.1:80, 10.0.0.2:80"}`,
			`web: web/10.0.0.1:80, 10.0.0.2:80, "10.0.0.1:80, 10.0.0.2:80" 0 [dill dill.listener=local:80]`,
			[]string{`line 2: services[0] "web": backends[0]: "10.0.0.1:80, 10.0.0.2:80" is more than one address; want "host:port"`},
		},
		{
			"a URL for a backend",
			`{"name": "web", "listener": "local:80", "backends": "tcp://10.0.0.1:80"}`,
			`web: web/tcp://10.0.0.1:80, "tcp://10.0.0.1:80" 0 [dill dill.listener=local:80]`,
			[]string{`line 2: services[0] "web": backends[0]: "tcp://10.0.0.1:80" is a URL; want "host:port"`},
		},
		{
			"a field twice",
			`{"name": "web", "Name": "web2", "listener": "local:80", "backends": "10.0.0.1:80"}`,
			`services[0]: , "" 0 [dill]`,
			[]string{`line 2: services[0]: "name" is there twice, upper and lower case are the same`},
		},
		{
			"a field of a backend twice",
			`{"name": "web", "listener": "local:80", "backends": {"address": "10.0.0.1:80", "ADDRESS": "10.0.0.2:80"}}`,
			`web: web/backends[0].address, "" 0 [dill dill.listener=local:80]`,
			[]string{`line 2: services[0] "web": backends[0].address: "address" is there twice, upper and lower case are the same`},
		},
		{
			"no listener",
			`{"name": "web", "backends": "10.0.0.1:80"}`,
			`web: web/10.0.0.1:80, "10.0.0.1" 80 [dill]`,
			[]string{`line 2: services[0] "web": listener: missing; want "label:port" or a list of them`},
		},
		{
			"listener of the wrong kind",
			`{"name": "web", "listener": [80, {"port": 80}], "backends": "10.0.0.1:80"}`,
			`web: web/10.0.0.1:80, "10.0.0.1" 80 [dill dill.listener=80]`,
			[]string{`line 2: services[0] "web": listener: a table; want "label:port" or a list of them`},
		},
		{
			"no name",
			`{"listener": "local:80", "backends": "10.0.0.1:80"}`,
			`services[0]: , "" 0 [dill]`,
			[]string{`line 2: services[0]: name: missing; want a name`},
		},
		{
			"blank name",
			`{"name": " ", "listener": "local:80", "backends": "10.0.0.1:80"}`,
			`services[0]: , "" 0 [dill]`,
			[]string{`line 2: services[0]: name: blank; want a name`},
		},
		{
			"no table",
			`"web"`,
			`services[0]: , "" 0 [dill]`,
			[]string{`line 2: services[0]: is a string; want a table with name, listener and backends`},
		},
		{
			"unknown field",
			`{"name": "web", "listener": "local:80", "backends": "10.0.0.1:80", "stratgey": "random"}`,
			`web: web/10.0.0.1:80, "10.0.0.1" 80 [dill dill.listener=local:80]`,
			[]string{`line 2: services[0] "web": "stratgey": unknown field; want name, listener, backends or an option: allow, connect_timeout, drain, idle_timeout, max_connections, proxy, proxy_protocol, strategy, weight`},
		},
		{
			"unknown field of a backend",
			`{"name": "web", "listener": "local:80", "backends": [{"address": "10.0.0.1:80", "port": 80}]}`,
			`web: web/10.0.0.1:80, "10.0.0.1" 80 [dill dill.listener=local:80]`,
			[]string{`line 2: services[0] "web": "backends[0].port": unknown field; want address or an option: allow, connect_timeout, drain, idle_timeout, max_connections, proxy, proxy_protocol, strategy, weight`},
		},
		{
			// What must fail closed gets a value that compile refuses.
			"options of the wrong kind",
			`{"name": "web", "listener": "local:80", "backends": "10.0.0.1:80", "allow": ["10.0.0.0/8", {}], "proxy": ["x"], "weight": {}}`,
			`web: web/10.0.0.1:80, "10.0.0.1" 80 [dill dill.listener=local:80 dill.allow= dill.proxy= dill.weight=]`,
			[]string{
				`line 2: services[0] "web": allow: a table in the list; want networks`,
				`line 2: services[0] "web": proxy: a list; want a string or a number`,
				`line 2: services[0] "web": weight: a table; want a string or a number`,
			},
		},
		{
			"empty options",
			`{"name": "web", "listener": "local:80", "backends": "10.0.0.1:80", "allow": [], "proxy": "", "proxy_protocol": null}`,
			`web: web/10.0.0.1:80, "10.0.0.1" 80 [dill dill.listener=local:80 dill.allow= dill.proxy_protocol=]`,
			nil,
		},
		{
			"control characters",
			`{"name": "we\u0007b\n", "listener": "local:80\n", "backends": "10.0.0.1\n"}`,
			"we\ab\n: we\ab\n/10.0.0.1\n, \"10.0.0.1\\n\" 0 [dill dill.listener=local:80\n]",
			[]string{`line 2: services[0] "we\ab\n": backends[0]: "10.0.0.1\n" has no port; want "host:port"`},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			doc, err := Decode(JSON, []byte("{\"services\": [\n"+tt.entry+",\n"+good+"]}"))
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(doc.Services, func(s source.Service) bool { return s.Name == "good" })
			if i < 0 || show(doc.Services[i:i+1]) != `good: good/10.0.0.1:1, "10.0.0.1" 1 [dill dill.listener=local:1]` {
				t.Errorf("the good entry: %s", show(doc.Services))
			}
			if got := show(slices.Delete(doc.Services, i, i+1)); got != tt.want {
				t.Errorf("left of it\n got %s\nwant %s", got, tt.want)
			}
			var problems, shown, faults []string
			for _, p := range doc.Problems {
				problems = append(problems, p.Error())
				shown = append(shown, p.where()+p.Reason)
			}
			if !slices.Equal(problems, tt.problem) {
				t.Errorf("problems\n got %q\nwant %q", problems, tt.problem)
			}
			for _, s := range doc.Services {
				for _, in := range s.Instances {
					for _, f := range in.Faults {
						faults = append(faults, f.Reason)
					}
				}
			}
			if !slices.Equal(faults, shown) {
				t.Errorf("faults\n got %q\nwant %q", faults, shown)
			}
		})
	}
}

// TestFieldNamesInAnyCase: as the original reads them.
func TestFieldNamesInAnyCase(t *testing.T) {
	const want = `web: web/10.0.0.1:80, "10.0.0.1" 80 [dill dill.listener=local:80 dill.strategy=random dill.weight=2]`
	for f, text := range map[Format]string{
		TOML: "[[Services]]\nName = 'web'\nLISTENER = 'local:80'\nStrategy = 'random'\n[[Services.Backends]]\nAddress = '10.0.0.1:80'\nWeight = 2\n",
		YAML: "Services:\n- Name: web\n  Listener: local:80\n  Strategy: random\n  Backends: [{Address: 10.0.0.1:80, WEIGHT: 2}]\n",
		JSON: `{"SERVICES": [{"Name": "web", "Listener": "local:80", "Strategy": "random", "Backends": [{"Address": "10.0.0.1:80", "Weight": 2}]}]}`,
	} {
		doc, err := Decode(f, []byte(text))
		if err != nil || len(doc.Problems) > 0 || show(doc.Services) != want {
			t.Errorf("%s: %v, %v, %s\nwant %s", f, err, doc.Problems, show(doc.Services), want)
		}
	}
	for f, text := range map[Format]string{
		TOML: "services = []\nServices = []\n", YAML: "services: []\nServices: []\n", JSON: `{"services": [], "Services": []}`,
	} {
		if _, err := Decode(f, []byte(text)); err == nil || !strings.Contains(err.Error(), "services is there twice") {
			t.Errorf("%s: %v, want that services is there twice", f, err)
		}
	}
	tr, err := parse(TOML, []byte("\n[[Services]]\nName = 'a'\n"))
	if err != nil || tr.entries[0].line != 2 {
		t.Errorf("line %d, %v, want 2", tr.entries[0].line, err)
	}
}

func TestEntriesOfOneNameAreOneService(t *testing.T) {
	doc, err := Decode(YAML, []byte(`
services:
  - {name: web, listener: "local:80", backends: ["10.0.0.2:80", "10.0.0.1:80"]}
  - {name: web, listener: "local:443", backends: ["10.0.0.1:80", "10.0.0.1:80"]}
`))
	if err != nil || len(doc.Problems) > 0 {
		t.Fatal(err, doc.Problems)
	}
	want := `web: web/10.0.0.1:80, "10.0.0.1" 80 [dill dill.listener=local:80]
web: web/10.0.0.1:80#2, "10.0.0.1" 80 [dill dill.listener=local:443]
web: web/10.0.0.1:80#3, "10.0.0.1" 80 [dill dill.listener=local:443]
web: web/10.0.0.2:80, "10.0.0.2" 80 [dill dill.listener=local:80]`
	if got := show(doc.Services); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if s := doc.Services[0]; s.CreateIndex != 1 || s.Instances[1].CreateIndex != 2 {
		t.Errorf("create indexes %d, %+v", s.CreateIndex, s.Instances)
	}
}

func TestLinesOfEntries(t *testing.T) {
	for name, tt := range map[string]struct {
		format Format
		text   string
		want   []int
	}{
		"toml":                    {TOML, "# c\n[[services]] # web\nname='a'\n\n  [[ services ]]\nname='b'\n", []int{2, 5}},
		"toml inline":             {TOML, "services = [{name='a'},\n{name='b'}]\n", []int{0, 0}},
		"toml header in a string": {TOML, "x='''\n[[services]]\n'''\n[[services]]\nname='a'\n", []int{0}},
		"yaml":                    {YAML, "# c\nservices:\n\n- name: a\n- name: b\n", []int{4, 5}},
		"yaml alias":              {YAML, "x: &l\n- name: a\nservices: *l\n", []int{2}},
		"json":                    {JSON, "{\"x\": [{}],\n\"services\": [{\"name\": \"a\"}\n\n, {\"name\": \"b\"}]}", []int{2, 4}},
	} {
		t.Run(name, func(t *testing.T) {
			tr, err := parse(tt.format, []byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			var got []int
			for _, e := range tr.entries {
				got = append(got, e.line)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("lines %v, want %v", got, tt.want)
			}
		})
	}
}

func TestUnknownTopLevelFieldIsReported(t *testing.T) {
	doc, err := Decode(TOML, []byte("servcies = 1\nservices = []\n"))
	if err != nil || len(doc.Problems) != 1 {
		t.Fatal(err, doc.Problems)
	}
	if got, want := doc.Problems[0].Error(), `"servcies": unknown field; want services`; got != want {
		t.Errorf("problem %q, want %q", got, want)
	}
}

func TestProblemsKeepSecrets(t *testing.T) {
	const secret = "hunter2"
	doc, err := Decode(JSON, []byte(`{"prxy": "hunter2", "services": [
		{"name": "a", "listener": "local:80", "proxy": ["socks5://u:hunter2@h:1"], "prxy": "socks5://u:hunter2@h:1",
		 "backends": [{"address": 1, "proxy": {"password": "hunter2"}}, "socks5://u:hunter2@h:1"]},
		{"name": "b", "listener": "local:81", "backends": ["http://u:p@h:80/?t=hunter2", "h:80?t=hunter2", "socks5://u:hunter210.0.0.1:80",
		 {"address": "h:80", "token: hunter2": 1}], "pass=hunter2": 1, "pass hunter2": 1}]}`))
	if err != nil || len(doc.Problems) < 4 {
		t.Fatal(err, doc.Problems)
	}
	for _, p := range doc.Problems {
		if strings.Contains(p.Error(), secret) {
			t.Errorf("problem tells the secret: %s", p)
		}
	}
	for _, in := range slices.Concat(doc.Services[0].Instances, doc.Services[1].Instances) {
		if strings.Contains(in.ID, secret) || strings.Contains(strings.Join(in.Tags, " "), secret) {
			t.Errorf("instance tells the secret: %s %q", in.ID, in.Tags)
		}
	}
}
