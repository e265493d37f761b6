package consul

import (
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"dill/controlplane/consultest"
	"dill/controlplane/source"
)

// elsewhere is a node that no agent runs on, so that nobody takes away what is
// registered there.
const elsewhere = "elsewhere"

// registerElsewhere registers a service with one instance there, port 10,000+n,
// and a passing check.
func registerElsewhere(agent *consultest.Agent, name string, n int) error {
	_, err := agent.Client().Catalog().Register(&api.CatalogRegistration{
		Node: elsewhere, Address: "127.0.0.9", SkipNodeUpdate: true,
		Service: &api.AgentService{
			ID: name, Service: name, Port: 10_000 + n,
			Tags: []string{"dill", fmt.Sprint("dill.listener=local:", 10_000+n)},
		},
		Check: &api.AgentCheck{Node: elsewhere, CheckID: "check:" + name, ServiceID: name, ServiceName: name, Status: api.HealthPassing},
	}, nil)
	return err
}

func serviceName(i int) string { return fmt.Sprintf("service-%04d", i) }

// registerMany registers n services elsewhere.
func registerMany(t *testing.T, agent *consultest.Agent, n int) {
	t.Helper()
	_, err := agent.Client().Catalog().Register(&api.CatalogRegistration{Node: elsewhere, Address: "127.0.0.9"}, nil)
	must(t, err)
	forMany(t, n, func(i int) error { return registerElsewhere(agent, serviceName(i), i) })
}

// forMany calls do for 0 to n-1, a few at once.
func forMany(t *testing.T, n int, do func(i int) error) {
	t.Helper()
	var work sync.WaitGroup
	next := make(chan int)
	fails := make(chan error, n)
	for range 4 {
		work.Go(func() {
			for i := range next {
				if err := do(i); err != nil {
					fails <- err
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	work.Wait()
	close(fails)
	for err := range fails {
		t.Fatal(err)
	}
}

// setElsewhere sets the check of a service registered there.
func setElsewhere(t *testing.T, agent *consultest.Agent, name, status, output string) {
	t.Helper()
	_, err := agent.Client().Catalog().Register(&api.CatalogRegistration{
		Node: elsewhere, SkipNodeUpdate: true,
		Check: &api.AgentCheck{Node: elsewhere, CheckID: "check:" + name, ServiceID: name, ServiceName: name, Status: status, Output: output},
	}, nil)
	must(t, err)
}

func TestBeyondTheBudget(t *testing.T) {
	t.Parallel()
	const n = 300
	agent := consultest.New(t, consultest.Options{})
	registerMany(t, agent, n)
	began := time.Now()
	o := observe(t, Config{Address: agent.Addr()})
	o.await(t, "synced", sized(n))
	t.Logf("%d services read in %v: %+v", n, time.Since(began), o.Counters())

	near, far := serviceName(0), serviceName(n-1) // the watches go by name
	for _, name := range []string{near, far} {
		began := time.Now()
		setElsewhere(t, agent, name, "critical", "")
		o.within(t, 2*time.Second, name+" critical", has(name, elsewhere+"/"+name+" critical"))
		t.Logf("%s critical after %v", name, time.Since(began))
	}

	before := o.Counters()
	began = time.Now()
	must(t, agent.Register(consultest.Service{Name: "zzz", Port: 80, Tags: []string{"dill"}}))
	o.await(t, "a new service beyond the budget", has("zzz", "node-1/zzz passing"))
	t.Logf("new service after %v", time.Since(began))
	if got := o.Counters(); got.Requests()-before.Requests() > 15 {
		t.Errorf("one new service cost %d requests", got.Requests()-before.Requests())
	}

	// An instance without a check of its own: neither the names and tags of
	// the catalog nor the checks tell.
	began = time.Now()
	must(t, agent.Register(consultest.Service{ID: "zzz-2", Name: "zzz", Port: 81, Tags: []string{"dill"}}))
	o.within(t, 5*time.Second, "an instance without check", has("zzz", "node-1/zzz passing", "node-1/zzz-2 passing"))
	t.Logf("instance without check after %v", time.Since(began))
	must(t, agent.Deregister("zzz"))
	o.within(t, 6*time.Second, "it is gone", has("zzz", "node-1/zzz-2 passing"))

	// The whole node: every service on it, near and far.
	began = time.Now()
	_, err := agent.Client().Catalog().Register(&api.CatalogRegistration{
		Node: elsewhere, SkipNodeUpdate: true,
		Check: &api.AgentCheck{Node: elsewhere, CheckID: api.NodeMaint, Status: api.HealthCritical},
	}, nil)
	must(t, err)
	o.await(t, "node in maintenance", func(s source.Snapshot) bool {
		return !slices.ContainsFunc(s.Services, func(svc source.Service) bool {
			return svc.Name != "zzz" && svc.Instances[0].Health != source.Maintenance
		})
	})
	t.Logf("%d instances in maintenance after %v", n, time.Since(began))

	// A service goes, and one from beyond takes its watch.
	_, err = agent.Client().Catalog().Deregister(&api.CatalogDeregistration{Node: elsewhere, ServiceID: near}, nil)
	must(t, err)
	o.await(t, "gone", has(near))
	const ofTheTest = 4 // connections that consultest keeps
	if held := established(t, agent); held < 100 || held > DefaultMaxConnections+ofTheTest {
		t.Errorf("the kernel knows of %d connections to the agent", held)
	}
	if c := o.Counters(); c.PeakConnections > DefaultMaxConnections || c.Sessions != 1 {
		t.Errorf("at the end: %+v", c)
	}
}

// established counts the connections to the agent, from /proc/net/tcp.
func established(t *testing.T, agent *consultest.Agent) (n int) {
	t.Helper()
	table, err := os.ReadFile("/proc/net/tcp")
	must(t, err)
	u, err := url.Parse(agent.Addr())
	must(t, err)
	port, err := strconv.Atoi(u.Port())
	must(t, err)
	// Fields 2 and 3 are the remote address and the state, both in hex.
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line)
		if strings.HasSuffix(f[2], fmt.Sprintf(":%04X", port)) && f[3] == "01" {
			n++
		}
	}
	return n
}

func TestFlapsBeyondTheBudgetFetchNothing(t *testing.T) {
	t.Parallel()
	agent := consultest.New(t, consultest.Options{})
	registerMany(t, agent, 6)
	o := observe(t, Config{Address: agent.Addr(), MaxConnections: reserve + 4}) // two watches
	o.await(t, "synced", sized(6))
	far := serviceName(5)
	setElsewhere(t, agent, far, "critical", "")
	o.await(t, "critical", has(far, elsewhere+"/"+far+" critical"))
	snapshots, before := o.count(), o.Counters()
	setElsewhere(t, agent, far, "critical", "another output")
	deadline := time.Now().Add(patience)
	for o.Counters().State == before.State && time.Now().Before(deadline) {
		<-time.After(5 * time.Millisecond)
	}
	setElsewhere(t, agent, far, "passing", "")
	o.await(t, "passing", has(far, elsewhere+"/"+far+" passing"))
	if got := o.Counters().Health - before.Health; got != 1 {
		t.Errorf("%d fetches for one change and one flap", got)
	}
	if got := o.since(snapshots); len(got) != 1 {
		t.Errorf("%d snapshots", len(got))
	}
}

func TestMassRestartIsCoalesced(t *testing.T) {
	t.Parallel()
	const n = 400
	agent := consultest.New(t, consultest.Options{})
	registerMany(t, agent, n)
	o := observe(t, Config{Address: agent.Addr()})
	o.await(t, "synced", sized(n))
	before := o.Counters()
	began := time.Now()
	forMany(t, n, func(i int) error {
		name := serviceName(i)
		_, err := agent.Client().Catalog().Deregister(&api.CatalogDeregistration{Node: elsewhere, ServiceID: name}, nil)
		if err != nil {
			return err
		}
		return registerElsewhere(agent, name, i+1)
	})
	took := time.Since(began)
	o.await(t, "all changed", func(s source.Snapshot) bool {
		if len(s.Services) != n || !current(s) {
			return false
		}
		for i, svc := range s.Services {
			if svc.Instances[0].Port != 10_000+i+1 {
				return false
			}
		}
		return true
	})
	got := o.Counters()
	fetches, snapshots := got.Health-before.Health, got.Snapshots-before.Snapshots
	t.Logf("%d services in %v: %d health queries, %d of the catalog, %d of the checks, %d snapshots; seen %v later",
		n, took, fetches, got.Catalog-before.Catalog, got.State-before.State, snapshots, time.Since(began)-took)
	if fetches > 2*n {
		t.Errorf("%d health queries for %d services", fetches, n)
	}
}

// TestFewDescriptors: with the least number of connections every service is
// followed.
func TestFewDescriptors(t *testing.T) {
	t.Parallel()
	const n = 30
	agent := consultest.New(t, consultest.Options{})
	registerMany(t, agent, n)
	o := observe(t, Config{Address: agent.Addr(), OpenFiles: 1})
	o.await(t, "synced", sized(n))
	for i := range n {
		name := serviceName(i)
		setElsewhere(t, agent, name, "critical", "")
		o.await(t, name+" critical", has(name, elsewhere+"/"+name+" critical"))
	}
	if c := o.Counters(); c.PeakConnections > fewConnections || c.Sessions != 1 {
		t.Errorf("it took %+v", c)
	}
}

func TestAgentThatAllowsFewConnections(t *testing.T) {
	t.Parallel()
	const n = 150
	agent := consultest.New(t, consultest.Options{Extra: `limits { http_max_conns_per_client = 60 }`})
	registerMany(t, agent, n)
	o := observe(t, Config{Address: agent.Addr()})
	o.await(t, "synced", sized(n))
	for _, name := range []string{serviceName(0), serviceName(n - 1)} {
		setElsewhere(t, agent, name, "critical", "")
		o.await(t, name+" critical", has(name, elsewhere+"/"+name+" critical"))
	}
	c := o.Counters()
	t.Logf("%+v", c)
	if c.Sessions != 1 || c.Connections > 60 || c.Requests() > 3000 {
		t.Errorf("it took %+v", c)
	}
	if len(o.log.matching("allows fewer connections")) == 0 {
		t.Error("nobody is told")
	}
}

func TestConfirm(t *testing.T) {
	t.Parallel()
	agent := consultest.New(t, consultest.Options{})
	registerMany(t, agent, 20)
	o := observe(t, Config{Address: agent.Addr(), MaxConnections: reserve + 4})
	s := o.await(t, "synced", sized(20))
	c, err := o.Confirm(t.Context())
	must(t, err)
	if !current(c) || !slices.EqualFunc(c.Services, s.Services, source.Service.Equal) {
		t.Errorf("confirmed is %s", show(c))
	}
	agent.Kill()
	o.await(t, "unreachable", func(s source.Snapshot) bool { return s.Err != nil })
	if _, err := o.Confirm(t.Context()); err == nil {
		t.Error("confirmed by nobody")
	}
}

// TestInstancesWithoutChecksBeyondTheBudget: nothing but the catalog's index
// tells of them, and it does not say which.
func TestInstancesWithoutChecksBeyondTheBudget(t *testing.T) {
	t.Parallel()
	const n = 8
	agent := consultest.New(t, consultest.Options{})
	registerMany(t, agent, n)
	o := observe(t, Config{Address: agent.Addr(), MaxConnections: reserve + 4}) // two watches
	o.await(t, "synced", sized(n))
	before := o.Counters()
	for i := 2; i < n; i++ {
		name := serviceName(i)
		_, err := agent.Client().Catalog().Register(&api.CatalogRegistration{
			Node: elsewhere, SkipNodeUpdate: true,
			Service: &api.AgentService{ID: "zz", Service: name, Port: 9999, Tags: []string{"dill", fmt.Sprint("dill.listener=local:", 10_000+i)}},
		}, nil)
		must(t, err)
		began := time.Now()
		o.within(t, 2*time.Second, "second instance of "+name, has(name, elsewhere+"/"+name+" passing", elsewhere+"/zz passing"))
		joined := time.Since(began)
		_, err = agent.Client().Catalog().Deregister(&api.CatalogDeregistration{Node: elsewhere, ServiceID: "zz"}, nil)
		must(t, err)
		began = time.Now()
		o.within(t, 2*time.Second, "it is gone", has(name, elsewhere+"/"+name+" passing"))
		t.Logf("%s: joined after %v, left after %v", name, joined, time.Since(began))
	}
	after := o.Counters()
	changes := uint64(2 * (n - 2))
	if got := after.Requests() - before.Requests(); got > 8*changes {
		t.Errorf("%d changes cost %d requests: %+v, then %+v", changes, got, before, after)
	}

	// What is none of dill's business moves the same index.
	before = after
	for i := range 30 {
		must(t, agent.Register(consultest.Service{ID: "plain", Name: "plain", Port: 1 + i}))
		<-time.After(20 * time.Millisecond) // not so fast that they become one
	}
	if got := o.Counters().Nodes - before.Nodes; got > 12 {
		t.Errorf("%d requests to sweep for services that are not dill's", got)
	}
}
