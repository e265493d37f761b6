package consul

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/consul/api"

	"dill/controlplane/consultest"
	"dill/controlplane/source"
)

// register puts an instance of a service of this name into the catalog of a real
// Consul, as an agent would not for every name.
func register(t *testing.T, agent *consultest.Agent, node, name string) {
	t.Helper()
	_, err := agent.Client().Catalog().Register(&api.CatalogRegistration{
		Node: node, Address: "127.0.0.1", SkipNodeUpdate: true,
		Service: &api.AgentService{ID: "one", Service: name, Port: 80, Tags: []string{"dill", "dill.listener=local:5555"}},
	}, nil)
	must(t, err)
}

// A name that is no clean path is read as any other is, by watches, by Confirm
// and by a sweep; one that Consul refuses is stale, alone, with the reason.
func TestNamesThatAreNoCleanPath(t *testing.T) {
	t.Parallel()
	agent := consultest.New(t, consultest.Options{})
	names := []string{
		"/service.v1", ".", "..", "a//b", "a/../b", "a b", "a%2Fb", "50%", "trailing/", "?q=1", "#f", "ünï/cödé", "a;b", "a+b", "plain",
	}
	for i, name := range names {
		register(t, agent, "n"+string(rune('a'+i))+"/"+name, name)
	}
	const bad = "con\ttrol"
	register(t, agent, "nz", bad)

	o := observe(t, Config{Address: agent.Addr()})
	s := o.await(t, "all but one are read", func(s source.Snapshot) bool {
		return current(s) && len(s.Services) == len(names) && len(s.Stale) == 1
	})
	if one := s.Stale[0]; one.Service != bad || one.Err == nil || !strings.Contains(one.Err.Error(), "cannot be printed") {
		t.Errorf("stale is %+v", one)
	}
	for _, name := range names {
		if len(instancesOf(s, name)) != 1 {
			t.Errorf("%q has the instances %q", name, instancesOf(s, name))
		}
	}
	if got := o.log.matching("service is stale"); len(got) == 0 {
		t.Errorf("nothing tells of the one that cannot be read:\n%s", o.log)
	}

	confirmed, err := o.Confirm(t.Context())
	if err != nil || len(confirmed.Services) != len(names) || len(confirmed.Stale) != 1 || confirmed.Stale[0].Service != bad {
		t.Errorf("confirmed is %s, stale %v, %v", show(confirmed), confirmed.Stale, err)
	}

	c, err := newClient(o.cfg, o.token, o.dial, &o.counters)
	must(t, err)
	defer c.close()
	found, _, err := c.sweep(t.Context(), 100, make(chan struct{}, reserve))
	must(t, err)
	for _, name := range names {
		if found[name] == nil {
			t.Errorf("a sweep does not find %q", name)
		}
	}

	for i, name := range names {
		_, err := agent.Client().Catalog().Deregister(&api.CatalogDeregistration{Node: "n" + string(rune('a'+i)) + "/" + name}, nil)
		must(t, err)
	}
	o.await(t, "they go when they are deregistered", func(s source.Snapshot) bool { return len(s.Services) == 0 })
}

// Consul answers for web with the instances of Web, too.
func TestNamesThatDifferInCase(t *testing.T) {
	t.Parallel()
	agent := consultest.New(t, consultest.Options{})
	register(t, agent, "n1", "web")
	register(t, agent, "n2", "Web")
	o := observe(t, Config{Address: agent.Addr()})
	s := o.await(t, "synced", current)
	for name, want := range map[string]string{"web": "n1/one passing", "Web": "n2/one passing"} {
		if got := instancesOf(s, name); !slices.Equal(got, []string{want}) {
			t.Errorf("%s has the instances %q, want %s", name, got, want)
		}
	}
	_, err := agent.Client().Catalog().Deregister(&api.CatalogDeregistration{Node: "n1"}, nil)
	must(t, err)
	s = o.await(t, "web is gone", func(s source.Snapshot) bool { return len(instancesOf(s, "web")) == 0 })
	if got := instancesOf(s, "Web"); len(got) != 1 {
		t.Errorf("Web has the instances %q", got)
	}
}

// What stands before "/v1" may be nothing but a slash, or the path under which a
// proxy has Consul.
func TestPathOfTheAddress(t *testing.T) {
	t.Parallel()
	agent := consultest.New(t, consultest.Options{})
	register(t, agent, "n1", "a/b")
	there, err := url.Parse(agent.Addr())
	must(t, err)
	proxy := httputil.NewSingleHostReverseProxy(there)
	proxy.ErrorHandler = func(http.ResponseWriter, *http.Request, error) {} // the test ends
	transport := &http.Transport{}
	proxy.Transport = transport
	t.Cleanup(transport.CloseIdleConnections)
	front := httptest.NewServer(http.StripPrefix("/ops/consul", proxy))
	t.Cleanup(front.Close)
	for _, address := range []string{agent.Addr() + "/", agent.Addr() + "//", front.URL + "/ops/consul", front.URL + "/ops/consul/"} {
		t.Run(address, func(t *testing.T) {
			o := observe(t, Config{Address: address})
			s := o.await(t, "it works", current)
			if len(s.Stale) > 0 || len(instancesOf(s, "a/b")) != 1 {
				t.Errorf("snapshot is %s, stale %v", show(s), s.Stale)
			}
		})
	}
}

// A wait that is longer than Consul's longest is Consul's longest, for the
// deadline and for telling an answer that waited from one that did not.
func TestWaitAboveConsulsLongest(t *testing.T) {
	scripted(t, Config{Wait: time.Hour}, func(f *fake) { f.set("web", entry("web", "web-1", 80)) }, func(t *testing.T, f *fake, o *observer) {
		synctest.Wait()
		before, _ := f.history()
		time.Sleep(MaxWait + time.Second)
		after, _ := f.history()
		asked := 0
		for _, r := range after[len(before):] {
			if r.FormValue("index") == "" {
				t.Errorf("read anew after a wait: %s", r.URL)
			}
			asked++
		}
		for _, r := range after {
			if wait := r.FormValue("wait"); wait != "" && wait != "600000ms" {
				t.Errorf("asked to wait for %s", wait)
			}
		}
		if asked != 2 || len(o.log.matching("level=WARN")) > 0 || len(o.log.matching("waits no longer")) != 1 { // the catalog's and the service's
			t.Errorf("%d queries in ten minutes, and the log is\n%s", asked, o.log)
		}
	})
}
