package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
)

// No printed form of a configuration holds a secret.
func TestSecretsAreMasked(t *testing.T) {
	environ := []string{
		"DILL_CONSUL_TOKEN=s3cret", "DILL_NOMAD_TOKEN=s3cret",
		"DILL_CONSUL_ADDRESS=http://me:s3cret@127.0.0.1:8500", "DILL_HTTP_ENDPOINT=http://s3cret@h/?pass=s3cret&pw=s3cret&code=s3cret&s3cret",
	}
	c := mustLoad(t, "", environ...)
	var b bytes.Buffer
	if err := c.Print(&b); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&b, "%v %+v %#v %s", c, c, c, c)
	fmt.Fprint(&b, Changes(mustLoad(t, ""), c))
	c.Consul.Address, c.HTTP.Endpoint = "", "" // a URL is plain text to whoever holds it
	fmt.Fprintf(&b, "%v %+v %#v %v %#v %s %q", c.Consul, c.Consul, c.Consul, c.Nomad, c.Nomad, c.Nomad.Token, c.Nomad.Token)
	if err := json.NewEncoder(&b).Encode(c); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "s3cret") {
		t.Errorf("a secret is shown:\n%s", &b)
	}
	for _, want := range []string{`consul.token = "***"`, `"http://***@127.0.0.1:8500"`, `"http://***@h/?pass=***&pw=***&code=***&***"`} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %s in\n%s", want, &b)
		}
	}
}

// What Print writes can be read again and means the same.
func TestPrintIsTOML(t *testing.T) {
	for _, c := range []*Config{mustLoad(t, ""), mustLoad(t, write(t, "c.toml", everyKey(t, "toml")), "DILL_CONSUL_TOKEN=***", "DILL_NOMAD_TOKEN=***")} {
		var b bytes.Buffer
		if err := c.Print(&b); err != nil {
			t.Fatal(err)
		}
		if err := toml.Unmarshal(b.Bytes(), &map[string]any{}); err != nil {
			t.Fatalf("%v in\n%s", err, &b)
		}
		again := mustLoad(t, write(t, "again.toml", dropEmpty(b.String())))
		if changes := Changes(c, again); len(changes) > 0 {
			t.Errorf("after reading it again: %v", changes)
		}
	}
}

// dropEmpty leaves out the empty token_file, which excludes the token.
func dropEmpty(s string) string {
	lines := slices.DeleteFunc(strings.Split(s, "\n"), func(l string) bool {
		return strings.HasPrefix(l, "consul.token_file")
	})
	return strings.Join(lines, "\n")
}

func TestPrintNamesOrigins(t *testing.T) {
	c := mustLoad(t, write(t, "c.toml", "peek.listener = ':2323'"), "DILL_LOG_LEVEL=debug", "CONSUL_NAMESPACE=ns")
	var b bytes.Buffer
	if err := c.Print(&b); err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(b.String()), " ")
	for _, want := range []string{
		`peek.listener = "0.0.0.0:2323" # ` + c.Path(), `log.level = "debug" # DILL_LOG_LEVEL`,
		`consul.namespace = "ns" # CONSUL_NAMESPACE`, `log.format = "auto" # default`, "sources: consul",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, &b)
		}
	}
}

func TestChanges(t *testing.T) {
	old := mustLoad(t, "", "DILL_CONSUL_ADDRESS=http://u:one@h:1")
	new := mustLoad(t, "", "DILL_CONSUL_ADDRESS=http://u:two@h:1", "DILL_CONSUL_TOKEN=x", "DILL_DATAPLANE_LOOPS=2", "DILL_LISTENERS_ALLOWED=a=::1")
	changes := Changes(old, new)
	want := []Change{
		{"listeners.allowed", "any=0.0.0.0,local=127.0.0.1", "a=::1", false},
		{"dataplane.loops", "0", "2", true},
		{"consul.address", "http://***@h:1", "http://***@h:1", false},
		{"consul.token", "", "***", false},
	}
	if !slices.Equal(changes, want) {
		t.Errorf("got  %v\nwant %v", changes, want)
	}
	if got := NeedsRestart(changes); !slices.Equal(got, []string{"dataplane.loops"}) {
		t.Errorf("needs restart: %q", got)
	}
}

func TestReferenceNamesEverything(t *testing.T) {
	var b bytes.Buffer
	if err := Reference(&b); err != nil {
		t.Fatal(err)
	}
	for _, k := range Keys() {
		if !strings.Contains(b.String(), "| `"+k.Name+"` | "+k.field(new(Config)).kind()+" | "+code(k.Default)+" | `"+k.Env()+"`") {
			t.Errorf("%s is not in the reference", k.Name)
		}
	}
}
