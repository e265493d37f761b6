package consultest

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"go.uber.org/goleak"

	"dill/dataplane/dptest"
)

func TestMain(m *testing.M) {
	dptest.Isolate()
	goleak.VerifyTestMain(m)
}

// statuses returns the aggregated status of each instance of a service.
func statuses(t *testing.T, a *Agent, service string) map[string]string {
	t.Helper()
	entries, _, err := a.Client().Health().Service(service, "", false, nil)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string)
	for _, e := range entries {
		all[e.Service.ID] = e.Checks.AggregatedStatus()
	}
	return all
}

func TestAgentLivesAndForgets(t *testing.T) {
	t.Parallel()
	a := New(t, Options{})
	web := Service{ID: "web-1", Name: "web", Port: 80, Tags: []string{"x"}, Checks: api.AgentServiceChecks{TTL("passing")}}
	if err := a.Register(web); err != nil {
		t.Fatal(err)
	}
	if got := statuses(t, a, "web"); len(got) != 1 || got["web-1"] != "passing" {
		t.Errorf("after Register: %v", got)
	}
	if err := a.SetTTL("web-1", "critical"); err != nil {
		t.Fatal(err)
	}
	if got := statuses(t, a, "web"); got["web-1"] != "critical" {
		t.Errorf("after SetTTL: %v", got)
	}
	if err := a.Deregister("web-1"); err != nil {
		t.Fatal(err)
	}
	if got := statuses(t, a, "web"); len(got) != 0 {
		t.Errorf("after Deregister: %v", got)
	}
	if err := a.Register(web); err != nil {
		t.Fatal(err)
	}
	if err := a.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := statuses(t, a, "web"); len(got) != 0 {
		t.Errorf("a -dev agent remembers after Restart: %v", got)
	}
}

func TestServerRemembers(t *testing.T) {
	t.Parallel()
	a := New(t, Options{Server: true})
	addr := a.Addr()
	if err := a.Register(Service{Name: "web", Port: 80}); err != nil {
		t.Fatal(err)
	}
	a.Kill()
	if _, err := a.Client().Status().Leader(); err == nil {
		t.Error("a killed agent answers")
	}
	if err := a.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := statuses(t, a, "web"); len(got) != 1 {
		t.Errorf("after Restart: %v", got)
	}
	if a.Addr() != addr {
		t.Errorf("moved from %s to %s", addr, a.Addr())
	}
}

func TestStoppedAgentIsSilent(t *testing.T) {
	t.Parallel()
	a := New(t, Options{})
	if err := a.Stop(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := a.ready(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a stopped agent says %v", err)
	}
	if err := a.Cont(); err != nil {
		t.Fatal(err)
	}
	if err := a.ready(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestACLAndMutualTLS(t *testing.T) {
	t.Parallel()
	a := New(t, Options{ACL: true, TLS: Mutual})
	if err := a.Register(Service{Name: "web", Port: 80}); err != nil {
		t.Fatal(err)
	}
	nobody := (&api.QueryOptions{}).WithContext(t.Context())
	nobody.Token = "00000000-0000-0000-0000-000000000000"
	if _, _, err := a.Client().Catalog().Services(nobody); err == nil {
		t.Error("an unknown token is accepted")
	}
	conf := a.transport.TLSClientConfig.Clone()
	conf.Certificates = nil
	bare := &http.Transport{TLSClientConfig: conf}
	defer bare.CloseIdleConnections()
	if resp, err := (&http.Client{Transport: bare}).Get(a.Addr() + "/v1/status/leader"); err == nil {
		resp.Body.Close()
		t.Error("a client without certificate is accepted")
	}
}

func TestExtraHasTheLastWord(t *testing.T) {
	t.Parallel()
	a := New(t, Options{Extra: `node_name = "other"`})
	if name, err := a.Client().Agent().NodeName(); name != "other" {
		t.Errorf("node is called %q (%v)", name, err)
	}
	_, err := Start(t.Context(), Options{Extra: `no_such_key = 1`, Dir: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "no_such_key") {
		t.Errorf("an agent that refuses its configuration: %v", err)
	}
}

func TestClusterElectsAnother(t *testing.T) {
	t.Parallel()
	c := NewCluster(t, 3, Options{})
	first, err := c.Leader()
	if err != nil {
		t.Fatal(err)
	}
	first.Kill()
	deadline := time.Now().Add(time.Minute)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if next, err := c.Leader(); err == nil && next != first {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no new leader")
		}
		<-tick.C
	}
	if err := first.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestPortsAreReservedOnce(t *testing.T) {
	t.Parallel()
	seen := make(map[int]bool)
	for range 50 {
		p, err := reservePorts()
		if err != nil {
			t.Fatal(err)
		}
		defer p.release()
		if seen[p.api] {
			t.Fatalf("port %d twice", p.api)
		}
		seen[p.api] = true
	}
}

func TestBinary(t *testing.T) {
	empty, root := t.TempDir(), t.TempDir()
	place := func(dir string) string {
		path := filepath.Join(dir, "consul")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	t.Chdir(empty)
	t.Setenv("PATH", empty)
	t.Setenv(variable, "")
	if _, err := Binary(); err == nil || !strings.Contains(err.Error(), "make consul") {
		t.Errorf("without any: %v", err)
	}
	t.Setenv(variable, "/nowhere/consul")
	if _, err := Binary(); err == nil || !strings.Contains(err.Error(), "/nowhere/consul") {
		t.Errorf("with one that is missing: %v", err)
	}
	t.Setenv(variable, "")
	onPath := place(filepath.Join(root, "path"))
	t.Setenv("PATH", filepath.Dir(onPath))
	if got, err := Binary(); got != onPath {
		t.Errorf("on PATH: %q, %v", got, err)
	}
	built := place(filepath.Join(root, "repo", "bin"))
	below := filepath.Join(root, "repo", "a", "b")
	if err := os.MkdirAll(below, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "repo", "go.mod"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(below)
	if got, err := Binary(); got != built {
		t.Errorf("bin/consul: %q, %v", got, err)
	}
	given := place(filepath.Join(root, "given"))
	t.Setenv(variable, given)
	if got, err := Binary(); got != given {
		t.Errorf("$CONSUL: %q, %v", got, err)
	}
}
