package registry

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"go.uber.org/goleak"

	"dill/controlplane/consultest"
	"dill/dataplane/dptest"
)

func TestMain(m *testing.M) {
	dptest.Isolate()
	goleak.VerifyTestMain(m)
}

func TestOnLoopback(t *testing.T) {
	for addr, want := range map[string]bool{
		"127.0.0.1:8500": true, "http://127.0.0.1:8500": true, "localhost:8500": true, "localhost": true,
		"[::1]:8500": true, "https://[::1]:8501": true, "127.8.8.8": true, "unix:///run/consul.sock": true,
		"consul.example:8500": false, "http://10.0.0.1:8500": false, "192.168.1.1": false,
		"localhost.example:8500": false, "127.0.0.1.example": false, "": false,
	} {
		if got := onLoopback(addr); got != want {
			t.Errorf("%q: %v, want %v", addr, got, want)
		}
	}
}

func TestForeignConsulNeedsPermission(t *testing.T) {
	t.Setenv(AddrVar, "192.0.2.1:8500")
	_, err := Open(t.Context(), t.TempDir())
	if err == nil || !strings.Contains(err.Error(), PermitVar+"=yes") {
		t.Errorf("%v, want an error that says how to permit it", err)
	}
}

// start returns a registry of an agent of its own, and one that believes the
// agent to be the user's.
func start(t *testing.T) (own, theirs *Registry) {
	t.Helper()
	if _, err := consultest.Binary(); err != nil {
		t.Skip(err)
	}
	own, err := Start(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := own.Close(); err != nil {
			t.Error(err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	t.Setenv(AddrVar, own.URL)
	theirs, err = Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return own, theirs
}

func TestWhatIsRegisteredIsTakenBack(t *testing.T) {
	own, theirs := start(t)
	if !own.Own() || theirs.Own() {
		t.Error("whose agent it is is not known")
	}
	listen := netip.MustParseAddrPort("127.0.0.1:20001")
	backends := []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1"), netip.MustParseAddrPort("127.0.0.1:2")}
	env, _, err := theirs.Announce(t.Context(), listen, backends)
	if err != nil {
		t.Fatal(err)
	}
	if text := strings.Join(env, " "); !strings.Contains(text, "DILL_CONSUL_ADDRESS="+own.URL) || !strings.Contains(text, "bench=127.0.0.1") {
		t.Errorf("settings %q", text)
	}
	if err := theirs.Register(t.Context(), "other", 20002, backends[0]); err != nil {
		t.Fatal(err)
	}
	// Somebody else's service stays.
	if err := own.client.Agent().ServiceRegister(&api.AgentServiceRegistration{Name: "mine", Port: 5}); err != nil {
		t.Fatal(err)
	}
	services, err := own.client.Agent().Services()
	if err != nil || len(services) != 4 {
		t.Fatalf("%d services, %v; want 4", len(services), err)
	}
	for id, s := range services {
		if id != "mine" && !strings.HasPrefix(s.Service, theirs.prefix) {
			t.Errorf("%s is called %s, which does not say whose it is", id, s.Service)
		}
	}
	if err := theirs.Close(); err != nil {
		t.Fatal(err)
	}
	services, err = own.client.Agent().Services()
	if err != nil || len(services) != 1 || services["mine"] == nil {
		t.Errorf("left are %v, %v; want only the foreign one", services, err)
	}
}

func TestCrowdAndCounter(t *testing.T) {
	own, _ := start(t)
	if err := own.Crowd(t.Context(), 150, 21000, netip.MustParseAddrPort("127.0.0.1:1")); err != nil {
		t.Fatal(err)
	}
	if err := own.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	services, _, err := own.client.Catalog().Services(nil)
	if err != nil || len(services) != 151 { // and Consul itself
		t.Errorf("%d services, %v; want 151", len(services), err)
	}
	if tags := services[own.id("crowd", 149)]; len(tags) != 2 || !slices.Contains(tags, "dill.listener=bench:21149") {
		t.Errorf("the last one's tags are %q", tags)
	}

	c, err := own.Count()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	began := time.Now()
	for range 3 {
		resp, err := http.Get(c.URL + "/v1/status/leader")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Error(resp.Status)
		}
	}
	if n := c.Between(began, time.Now()); n != 3 {
		t.Errorf("%d requests counted, want 3", n)
	}
	if n := c.Between(time.Now(), time.Now().Add(time.Hour)); n != 0 {
		t.Errorf("%d requests from the future", n)
	}
	if err := c.Quiet(t.Context(), 10*time.Millisecond); err != nil {
		t.Error(err)
	}
}
