package main

import (
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"dill/controlplane/consultest"
	"dill/dataplane/dptest"
)

// register announces a backend as an instance of a service that asks for a
// port, with a check that SetTTL decides.
func register(t *testing.T, agent *consultest.Agent, service, id string, backend netip.AddrPort, listeners ...netip.AddrPort) {
	t.Helper()
	s := instance(service, id, backend, listeners...)
	s.Checks = append(s.Checks, consultest.TTL("passing"))
	if err := agent.Register(s); err != nil {
		t.Fatal(err)
	}
}

func instance(service, id string, backend netip.AddrPort, listeners ...netip.AddrPort) consultest.Service {
	tags := []string{"dill"}
	for _, l := range listeners {
		tags = append(tags, fmt.Sprintf("dill.listener=local:%d", l.Port()))
	}
	return consultest.Service{ID: id, Name: service, Address: backend.Addr().String(), Port: int(backend.Port()), Tags: tags}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// The main job: a tagged service gets its port, balanced over its passing
// instances, for as long as it has any.
func TestConsulServiceGetsItsPort(t *testing.T) {
	t.Parallel()
	agent := consultest.New(t, consultest.Options{})
	r := launch(t, fmt.Sprintf("consul.address = %q\nlisteners.linger = '1s'\n", agent.Addr()))
	one, two, port := saying(t, "one"), saying(t, "two"), freeAddr(t)

	register(t, agent, "web", "web-1", one.Addr(), port)
	r.answers(port, "one")

	register(t, agent, "web", "web-2", two.Addr(), port)
	r.shows(port, sorted(one, two)...)
	count := map[string]int{}
	for range 10 {
		count[ask(t, port)]++
	}
	if count["one"] != 5 || count["two"] != 5 {
		t.Errorf("10 requests went %v", count)
	}

	must(t, agent.SetTTL("web-2", "critical"))
	r.shows(port, one.Addr())
	for range 4 {
		if got := ask(t, port); got != "one" {
			t.Errorf("after web-2 turned critical: %q", got)
		}
	}
	must(t, agent.SetTTL("web-2", "passing"))
	r.shows(port, sorted(one, two)...)

	must(t, agent.Deregister("web-1"))
	r.shows(port, two.Addr())
	must(t, agent.Deregister("web-2"))
	r.closed(port)
	r.eventually("Peek is empty", func() bool { return !strings.Contains(r.table(), "round_robin") })

	r.signal(syscall.SIGTERM)
	r.exits(exitOK)
}

// sorted returns the backends' addresses as Peek lists them.
func sorted(a, b *dptest.Backend) []netip.AddrPort {
	if b.Addr().Compare(a.Addr()) < 0 {
		a, b = b, a
	}
	return to(a, b)
}

// A claim that makes no sense is refused alone, and visibly.
func TestConsulHostileTags(t *testing.T) {
	t.Parallel()
	agent := consultest.New(t, consultest.Options{})
	r := launch(t, fmt.Sprintf("consul.address = %q\n", agent.Addr()))
	hello, port := saying(t, "hello"), freeAddr(t)
	for i, claim := range []string{
		"local:80", "nolabel:5000", "local:99999", "local:", "local:5000=x", strings.Repeat("x", 10_000), "local:50\x1b[31m00",
	} {
		name := fmt.Sprintf("bad-%d", i)
		s := instance(name, name, hello.Addr(), port)
		s.Tags = append(s.Tags, "dill.listener="+claim)
		if i > 0 {
			s.Tags = []string{"dill", "dill.listener=" + claim}
		}
		must(t, agent.Register(s))
	}
	r.answers(port, "hello")
	r.eventually("every bad claim is refused in Peek", func() bool {
		text := r.table()
		for i := range 7 {
			if !strings.Contains(text, fmt.Sprintf("consul/bad-%d", i)) {
				return false
			}
		}
		return !strings.Contains(text, "\x1b") && len(text) < 10_000
	})
}

// dill waits for a Consul that is not there yet, and says so seldom.
func TestConsulDownAtStart(t *testing.T) {
	t.Parallel()
	agent := consultest.New(t, consultest.Options{})
	agent.Kill()
	r := launch(t, fmt.Sprintf("consul.address = %q\n", agent.Addr()))
	r.says(`level=WARN msg="consul is not current"`)
	dptest.Steady(t, 2*time.Second, "dill is silent about it", func() bool { return strings.Count(r.log.String(), "level=WARN") <= 2 })

	must(t, agent.Restart(t.Context()))
	hello, port := saying(t, "hello"), freeAddr(t)
	register(t, agent, "web", "web", hello.Addr(), port)
	r.answers(port, "hello")
}

// With a state file, a start without Consul serves the last good table.
func TestStartWithoutConsulServesTheLastGoodTable(t *testing.T) {
	t.Parallel()
	agent := consultest.New(t, consultest.Options{})
	settings := fmt.Sprintf("consul.address = %q\nstate.path = %q\n", agent.Addr(), t.TempDir()+"/state")
	r := launch(t, settings)
	hello, port := saying(t, "hello"), freeAddr(t)
	register(t, agent, "web", "web", hello.Addr(), port)
	r.answers(port, "hello")
	r.signal(syscall.SIGTERM)
	r.exits(exitOK)

	agent.Kill()
	r.start()
	r.answers(port, "hello")
	r.eventually("Peek says how old that is", func() bool { return strings.Contains(r.table(), "consul: last current ") })

	// Consul is back, and empty: the port stays until that has settled.
	must(t, agent.Restart(t.Context()))
	register(t, agent, "web", "web", hello.Addr(), port)
	r.says(`msg="consul is current again"`)
	if got := ask(t, port); got != "hello" {
		t.Errorf("got %q", got)
	}
}

// Consul's own variables, which are there for other programs, do not get past
// what dill was told, not even through Consul's library.
func TestConsulVariablesDoNotOverrideSettings(t *testing.T) {
	t.Parallel()
	agent := consultest.New(t, consultest.Options{ACL: true})
	r := launch(t, fmt.Sprintf("consul.address = %q\nconsul.token = %q\n", agent.Addr(), agent.Token),
		"CONSUL_HTTP_ADDR=127.0.0.1:1", "CONSUL_HTTP_SSL=true", "CONSUL_HTTP_TOKEN=wrong", "CONSUL_HTTP_TOKEN_FILE=/nowhere/token",
		"CONSUL_CACERT=/nowhere/ca.pem", "CONSUL_HTTP_AUTH=me:wrong", "DILL_CONSUL_TLS_CA="+certificates(t))
	hello, port := saying(t, "hello"), freeAddr(t)
	register(t, agent, "web", "web", hello.Addr(), port)
	r.answers(port, "hello")
}

// certificates is any readable file of certificates.
func certificates(t *testing.T) string {
	t.Helper()
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	path := filepath.Join(t.TempDir(), "ca.pem")
	block := &pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}
	must(t, os.WriteFile(path, pem.EncodeToMemory(block), 0o600))
	return path
}

// Consul's variables are enough where dill is told nothing else.
func TestConsulVariablesSuffice(t *testing.T) {
	t.Parallel()
	agent := consultest.New(t, consultest.Options{ACL: true, TLS: consultest.Mutual})
	host := strings.TrimPrefix(agent.Addr(), "https://")
	r := launch(t, "", "CONSUL_HTTP_ADDR="+host, "CONSUL_HTTP_SSL=true", "CONSUL_HTTP_TOKEN="+agent.Token,
		"CONSUL_CACERT="+agent.CA, "CONSUL_CLIENT_CERT="+agent.Cert, "CONSUL_CLIENT_KEY="+agent.Key)
	hello, port := saying(t, "hello"), freeAddr(t)
	register(t, agent, "web", "web", hello.Addr(), port)
	r.answers(port, "hello")
	if strings.Contains(r.log.String(), agent.Token) {
		t.Error("the token is in the log")
	}
}

// Sources of one dill serve side by side; the file has precedence.
func TestConsulBesideFile(t *testing.T) {
	t.Parallel()
	agent := consultest.New(t, consultest.Options{})
	files, mine, theirs := newRoutes(t), saying(t, "file"), saying(t, "consul")
	contested, own := freeAddr(t), freeAddr(t)
	files.set(route{"web", contested, to(mine)})
	r := launch(t, fmt.Sprintf("routing.file.path = %q\nrouting.consul.address = %q\n", files.path, agent.Addr()))
	register(t, agent, "web", "web", theirs.Addr(), contested, own)
	r.answers(contested, "file")
	r.answers(own, "consul")
	files.set()
	r.answers(contested, "consul")
}
