package routing

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"dill/controlplane/source"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func read(t *testing.T, name string) (Format, []byte) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	f, ok := FormatOf(name)
	if !ok {
		t.Fatalf("no format for %s", name)
	}
	return f, data
}

func TestOriginalDocument(t *testing.T) {
	f, data := read(t, "original.toml")
	doc, err := Decode(f, data)
	if err != nil || len(doc.Problems) > 0 {
		t.Fatalf("Decode: %v, %v", err, doc.Problems)
	}
	want := []source.Service{{Name: "foo", CreateIndex: 1, Instances: []source.Instance{{
		ID: "foo/127.0.0.1:5050", Host: "127.0.0.1", Port: 5050, CreateIndex: 1,
		Tags: []string{"dill", "dill.listener=local:1234", "dill.proxy=socks5://user:pass@127.0.0.1:1080"},
	}}}}
	if !reflect.DeepEqual(doc.Services, want) {
		t.Errorf("got  %+v\nwant %+v", doc.Services, want)
	}
}

func TestEveryFieldInEveryFormat(t *testing.T) {
	common := []string{
		"dill.allow=10.0.0.0/8,::1/128", "dill.connect_timeout=2s", "dill.drain=30s",
		"dill.idle_timeout=1h", "dill.max_connections=500",
	}
	tags := func(parts ...[]string) []string {
		all := []string{"dill"}
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	listeners := []string{"dill.listener=local:8080", "dill.listener=any:8081"}
	plain := tags(listeners, common, []string{"dill.proxy_protocol=v2", "dill.strategy=least_conn", "dill.weight=2"})
	want := []source.Service{
		{Name: "db", CreateIndex: 2, Instances: []source.Instance{{
			ID: "db/10.0.0.9:5432", Host: "10.0.0.9", Port: 5432, CreateIndex: 2,
			Tags: []string{"dill", "dill.listener=local:5432", "dill.allow=10.0.0.0/8,::1/128"},
		}}},
		{Name: "web", CreateIndex: 1, Instances: []source.Instance{
			{ID: "web/10.0.0.7:80", Host: "10.0.0.7", Port: 80, CreateIndex: 1, Tags: plain},
			{ID: "web/[fd00::7]:80", Host: "fd00::7", Port: 80, CreateIndex: 1, Tags: plain},
			{ID: "web/web.internal:80", Host: "web.internal", Port: 80, CreateIndex: 1,
				Tags: tags(listeners, common, []string{
					"dill.proxy=socks5://user:pass@10.0.0.1:1080", "dill.proxy_protocol=v2",
					"dill.strategy=least_conn", "dill.weight=5",
				})},
		}},
	}
	for _, name := range []string{"full.toml", "full.yaml", "full.json"} {
		t.Run(name, func(t *testing.T) {
			f, data := read(t, name)
			doc, err := Decode(f, data)
			if err != nil || len(doc.Problems) > 0 {
				t.Fatalf("Decode: %v, %v", err, doc.Problems)
			}
			if !reflect.DeepEqual(doc.Services, want) {
				t.Errorf("got  %+v\nwant %+v", doc.Services, want)
			}
		})
	}
}

func TestUnusableDocument(t *testing.T) {
	for _, tt := range []struct {
		name   string
		format Format
		text   string
		want   string // in the error
	}{
		{"empty toml", TOML, "", "empty document"},
		{"blank yaml", YAML, " \n\t\n", "empty document"},
		{"empty json", JSON, "\xef\xbb\xbf", "empty document"},
		{"no list in toml", TOML, "# nothing yet\n", `no list "services"`},
		{"no list in yaml", YAML, "# nothing yet\n", `no list "services"`},
		{"no list in json", JSON, "{}", `no list "services"`},
		{"toml syntax", TOML, "[[services]]\nname = \"a\nlistener", "line 2, column "},
		{"yaml syntax", YAML, "services:\n  - name: \"a\n", "line "},
		{"yaml tab", YAML, "services:\n\t- name: a", "line 2: "},
		{"yaml key twice", YAML, "services:\n  - name: a\n    name: b\n", `line 3: key "name" already defined`},
		{"yaml anchor of itself", YAML, "services: &a [*a]", "contains itself"},
		{"two yaml documents", YAML, "services: []\n---\nservices: []\n", "more than one document"},
		{"json syntax", JSON, "{\"services\": [\n{\"name\": \"a\",}\n]}", "line 2, column 14: "},
		{"cut off json", JSON, "{\"services\": [\n{\"name\": \"a\"", "line 2, column 12: unexpected end"},
		{"two json values", JSON, `{"services": []} {}`, "after top-level value"},
		{"json list twice", JSON, `{"services": [], "services": []}`, "twice"},
		{"json array", JSON, `[]`, "no object"},
		{"toml table", TOML, "[services]\nname = \"a\"\n", "services is a table; want a list"},
		{"yaml null", YAML, "services:\n", "services is empty; want a list"},
		{"json string", JSON, `{"services": "a"}`, "services is no list"},
		{"html", JSON, "<html>", "line 1, column 1: invalid character '<'"},
		{"html as yaml", YAML, "<html>\n<body>hello</body>\n", "line 1: not understood; want key: value"},
		{"secret in toml", TOML, "[[services]]\nproxy = s3cret", "line 2, column 9: "},
		{"secret in yaml", YAML, "services:\n- proxy: *s3cret", "line 2, column 10: unknown anchor"},
		{"too long", YAML, strings.Repeat("#", MaxSize+1), "want at most 16777216"},
		{"unknown format", 0, "services: []", "none of TOML, YAML, JSON"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			doc, err := Decode(tt.format, []byte(tt.text))
			if err == nil {
				t.Fatalf("no error, got %+v", doc)
			}
			if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q, want one line with %q", err, tt.want)
			}
			if strings.Contains(err.Error(), "s3cret") {
				t.Errorf("the document is quoted: %v", err)
			}
		})
	}
}

func TestNoServicesHasToBeSaid(t *testing.T) {
	for f, text := range map[Format]string{TOML: "services = []", YAML: "services: []", JSON: `{"services": []}`} {
		doc, err := Decode(f, []byte(text))
		if err != nil || len(doc.Services) > 0 || len(doc.Problems) > 0 {
			t.Errorf("%s: %+v, %v, want an empty document", f, doc, err)
		}
	}
}

// Aliases that multiply are the classic way to make a small YAML document cost
// gigabytes.
func TestYAMLAliasesThatMultiply(t *testing.T) {
	var b strings.Builder
	b.WriteString("a0: &a0 [x, x, x, x, x, x, x, x, x]\n")
	for i := range 9 {
		b.WriteString(strings.ReplaceAll("aN: &aN [*aM, *aM, *aM, *aM, *aM, *aM, *aM, *aM, *aM]\n", "N", string(rune('1'+i))))
	}
	text := b.String()
	for i := range 9 {
		text = strings.Replace(text, "*aM, *aM, *aM, *aM, *aM, *aM, *aM, *aM, *aM", strings.TrimSuffix(strings.Repeat("*a"+string(rune('0'+i))+", ", 9), ", "), 1)
	}
	if _, err := Decode(YAML, []byte(text+"services: [*a9]\n")); err == nil || !strings.Contains(err.Error(), "aliasing") {
		t.Errorf("error %v, want one about aliasing", err)
	}
}

func TestYAMLAnchorsAndMergeKeys(t *testing.T) {
	doc, err := Decode(YAML, []byte(`
services:
  - &web
    name: web
    listener: local:80
    backends: [10.0.0.1:80]
    strategy: random
  - <<: *web
    name: web2
    listener: local:81
`))
	if err != nil || len(doc.Problems) > 0 || len(doc.Services) != 2 {
		t.Fatalf("Decode: %+v, %v", doc, err)
	}
	if got, want := strings.Join(doc.Services[1].Instances[0].Tags, " "), "dill dill.listener=local:81 dill.strategy=random"; got != want {
		t.Errorf("tags %s, want %s", got, want)
	}
}

// TestTooManyEntriesCostTheRest: those before the limit are served.
func TestTooManyEntriesCostTheRest(t *testing.T) {
	t.Parallel()
	var entries []string
	for i := range maxEntries + 1 {
		entries = append(entries, fmt.Sprintf(`{"name": "s%05d", "listener": "local:5000", "backends": ["10.0.0.1:80"]}`, i))
	}
	doc, err := Decode(JSON, []byte(`{"services": [`+strings.Join(entries, ",")+`]}`))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(doc.Services); n != maxEntries || doc.Services[n-1].Name != "s65535" {
		t.Errorf("%d services, the last %q", n, doc.Services[n-1].Name)
	}
	if p := doc.Problems[0]; p.Entry != -1 || p.Reason != "65537 entries; the first 65536 are read" {
		t.Errorf("the first problem is %+v", p)
	}
}

// TestManyEntriesOfOneName: they cost memory in proportion to their number.
func TestManyEntriesOfOneName(t *testing.T) {
	cost := func(n int) uint64 {
		one := `{"name": "a", "listener": "local:5000", "backends": ["10.0.0.1:80"]}`
		text := []byte(`{"services": [` + strings.Repeat(one+",", n-1) + one + `]}`)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		doc, err := Decode(JSON, text)
		runtime.ReadMemStats(&after)
		if err != nil || len(doc.Services) != 1 || len(doc.Services[0].Instances) != n {
			t.Fatalf("%v, %d services", err, len(doc.Services))
		}
		return after.TotalAlloc - before.TotalAlloc
	}
	// Four times as many; a copy of all for each entry would make it sixteen.
	const n = 1 << 11
	if few, many := cost(n), cost(4*n); many > 6*few {
		t.Errorf("%d entries take %d KB, %d take %d", n, few>>10, 4*n, many>>10)
	}
}
