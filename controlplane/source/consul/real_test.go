package consul

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"dill/controlplane/consultest"
	"dill/controlplane/source"
)

// web is a service that asks for a listener.
func web(id string, checks ...*api.AgentServiceCheck) consultest.Service {
	return consultest.Service{
		ID: id, Name: "web", Address: "127.0.0.1", Port: 8080,
		Tags:   []string{"dill", "dill.listener=local:5555", "other"},
		Checks: checks,
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestServiceComesChangesAndGoes(t *testing.T) {
	t.Parallel()
	agent := consultest.New(t, consultest.Options{})
	o := observe(t, Config{Address: agent.Addr()})
	o.await(t, "synced", current)

	must(t, agent.Register(consultest.Service{Name: "plain", Port: 80, Tags: []string{"http"}}))
	s := web("web-1", consultest.TTL("passing"))
	s.Weights = &api.AgentWeights{Passing: 7, Warning: 3}
	must(t, agent.Register(s))
	began := time.Now()
	got := o.await(t, "registered", has("web", "node-1/web-1 passing"))
	t.Logf("registration seen %v after it returned", time.Since(began))
	if len(got.Services) != 1 || got.Suspect || got.Err != nil {
		t.Errorf("snapshot is %s", show(got))
	}
	inst := got.Services[0].Instances[0]
	if inst.Host != "127.0.0.1" || inst.Port != 8080 || inst.Weight != 7 || inst.CreateIndex == 0 {
		t.Errorf("instance is %+v", inst)
	}
	if want := []string{"dill", "dill.listener=local:5555"}; !slices.Equal(inst.Tags, want) {
		t.Errorf("tags are %q, want %q", inst.Tags, want)
	}

	must(t, agent.SetTTL("web-1", "warning"))
	got = o.await(t, "warning", has("web", "node-1/web-1 warning"))
	if w := got.Services[0].Instances[0].Weight; w != 3 {
		t.Errorf("weight when warning is %d, want 3", w)
	}
	must(t, agent.SetTTL("web-1", "critical"))
	o.await(t, "critical", has("web", "node-1/web-1 critical"))
	must(t, agent.SetTTL("web-1", "passing"))
	o.await(t, "passing", has("web", "node-1/web-1 passing"))

	must(t, agent.Client().Agent().EnableServiceMaintenance("web-1", "test"))
	o.await(t, "service in maintenance", has("web", "node-1/web-1 maintenance"))
	must(t, agent.Client().Agent().DisableServiceMaintenance("web-1"))
	o.await(t, "back", has("web", "node-1/web-1 passing"))
	must(t, agent.Client().Agent().EnableNodeMaintenance("test"))
	o.await(t, "node in maintenance", has("web", "node-1/web-1 maintenance"))
	must(t, agent.Client().Agent().DisableNodeMaintenance())
	o.await(t, "back", has("web", "node-1/web-1 passing"))

	s.Tags = []string{"dill", "dill.listener=local:6666"}
	must(t, agent.Register(s))
	o.await(t, "tags changed", func(s source.Snapshot) bool {
		return len(s.Services) == 1 && slices.Contains(s.Services[0].Instances[0].Tags, "dill.listener=local:6666")
	})
	second := web("web-2")
	second.Address = "" // the node's
	must(t, agent.Register(second))
	o.await(t, "second instance", has("web", "node-1/web-1 passing", "node-1/web-2 passing"))
	must(t, agent.Deregister("web-1"))
	o.await(t, "one left", has("web", "node-1/web-2 passing"))

	must(t, agent.Deregister("web-2"))
	began = time.Now()
	got = o.await(t, "gone", sized(0))
	t.Logf("deregistration seen %v after it returned", time.Since(began))
	if got.Suspect {
		t.Error("a plain deregistration is suspect")
	}
	if c := o.Counters(); c.Requests() > 60 || c.Sessions != 1 {
		t.Errorf("it took %+v", c)
	}
}

func TestOutputThatFlapsIsNotPublished(t *testing.T) {
	t.Parallel()
	agent := consultest.New(t, consultest.Options{Extra: `check_update_interval = "0s"`})
	must(t, agent.Register(web("web-1", consultest.TTL("passing"))))
	o := observe(t, Config{Address: agent.Addr()})
	o.await(t, "synced", sized(1))
	n, wakeUps := o.count(), o.Counters().WakeUps
	for i := range 10 {
		must(t, agent.Client().Agent().UpdateTTL("ttl:web-1", fmt.Sprint("output ", i), "passing"))
	}
	must(t, agent.SetTTL("web-1", "critical"))
	o.await(t, "critical", has("web", "node-1/web-1 critical"))
	if got := o.since(n); len(got) != 1 {
		t.Errorf("%d snapshots for one change and ten flaps", len(got))
	}
	if o.Counters().WakeUps == wakeUps {
		t.Error("the flaps did not even wake the source: the test shows nothing")
	}
}
