package consul

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"dill/controlplane/source"
)

func TestRead(t *testing.T) {
	node := &api.Node{Node: "n1", Address: "10.0.0.1"}
	dill := []string{"dill"}
	status := func(all ...string) (checks api.HealthChecks) {
		for _, s := range all {
			checks = append(checks, &api.HealthCheck{Status: s})
		}
		return checks
	}
	maintenance := &api.HealthCheck{CheckID: "_service_maintenance:x", Status: "critical"}
	tests := []struct {
		name  string
		entry api.ServiceEntry
		want  source.Instance
	}{
		{"the service's own address", api.ServiceEntry{Node: node, Service: &api.AgentService{ID: "a", Address: "10.0.0.2", Port: 80, Tags: dill}},
			source.Instance{ID: "n1/a", Host: "10.0.0.2", Port: 80, Tags: dill}},
		{"the node's address", api.ServiceEntry{Node: node, Service: &api.AgentService{ID: "a", Port: 80, Tags: dill}},
			source.Instance{ID: "n1/a", Host: "10.0.0.1", Port: 80, Tags: dill}},
		{"IPv6 as it is", api.ServiceEntry{Node: node, Service: &api.AgentService{ID: "a", Address: "fd00::1", Port: 80, Tags: dill}},
			source.Instance{ID: "n1/a", Host: "fd00::1", Port: 80, Tags: dill}},
		{"IPv6 in brackets", api.ServiceEntry{Node: node, Service: &api.AgentService{ID: "a", Address: "[fd00::1]", Port: 80, Tags: dill}},
			source.Instance{ID: "n1/a", Host: "fd00::1", Port: 80, Tags: dill}},
		{"a node's in brackets", api.ServiceEntry{Node: &api.Node{Node: "n1", Address: "[::1]"}, Service: &api.AgentService{ID: "a", Port: 80, Tags: dill}},
			source.Instance{ID: "n1/a", Host: "::1", Port: 80, Tags: dill}},
		{"the default of several ports", api.ServiceEntry{Node: node, Service: &api.AgentService{ID: "a", Tags: dill, Ports: api.ServicePorts{{Name: "x", Port: 1}, {Name: "y", Port: 2, Default: true}}}},
			source.Instance{ID: "n1/a", Host: "10.0.0.1", Port: 2, Tags: dill}},
		{"the only port", api.ServiceEntry{Node: node, Service: &api.AgentService{ID: "a", Tags: dill, Ports: api.ServicePorts{{Name: "x", Port: 1}}}},
			source.Instance{ID: "n1/a", Host: "10.0.0.1", Port: 1, Tags: dill}},
		{"none of several ports", api.ServiceEntry{Node: node, Service: &api.AgentService{ID: "a", Tags: dill, Ports: api.ServicePorts{{Port: 1}, {Port: 2}}}},
			source.Instance{ID: "n1/a", Host: "10.0.0.1", Tags: dill}},
		{"only its tags, and those that were meant to be some", api.ServiceEntry{Node: node, Service: &api.AgentService{ID: "a", Tags: []string{"x", "dill.weight=3", "dillx", "dill", "Dill", " dill.listener=local:80"}}},
			source.Instance{ID: "n1/a", Host: "10.0.0.1", Tags: []string{"dill.weight=3", "dill", "Dill", " dill.listener=local:80"}}},
		{"warning, at its weight", api.ServiceEntry{Node: node, Checks: status("passing", "warning"), Service: &api.AgentService{ID: "a", Tags: dill, Weights: api.AgentWeights{Passing: 9, Warning: 2}}},
			source.Instance{ID: "n1/a", Host: "10.0.0.1", Tags: dill, Health: source.Warning, Weight: 2}},
		{"warning, which has no weight", api.ServiceEntry{Node: node, Checks: status("warning"), Service: &api.AgentService{ID: "a", Tags: dill, Weights: api.AgentWeights{Passing: 9}}},
			source.Instance{ID: "n1/a", Host: "10.0.0.1", Tags: dill, Health: source.Warning, Weight: source.NoTraffic}},
		{"warning, without any weights", api.ServiceEntry{Node: node, Checks: status("warning"), Service: &api.AgentService{ID: "a", Tags: dill}},
			source.Instance{ID: "n1/a", Host: "10.0.0.1", Tags: dill, Health: source.Warning}},
		{"critical above warning", api.ServiceEntry{Node: node, Checks: status("critical", "warning", "passing"), Service: &api.AgentService{ID: "a", Tags: dill, Weights: api.AgentWeights{Passing: 9}}},
			source.Instance{ID: "n1/a", Host: "10.0.0.1", Tags: dill, Health: source.Critical, Weight: 9}},
		{"maintenance above critical", api.ServiceEntry{Node: node, Checks: append(status("critical"), maintenance), Service: &api.AgentService{ID: "a", Tags: dill}},
			source.Instance{ID: "n1/a", Host: "10.0.0.1", Tags: dill, Health: source.Maintenance}},
		{"a status that is none", api.ServiceEntry{Node: node, Checks: status("splendid"), Service: &api.AgentService{ID: "a", Tags: dill}},
			source.Instance{ID: "n1/a", Host: "10.0.0.1", Tags: dill, Health: source.Critical}},
		{"a weight below nothing", api.ServiceEntry{Node: node, Service: &api.AgentService{ID: "a", Tags: dill, Weights: api.AgentWeights{Passing: -5}}},
			source.Instance{ID: "n1/a", Host: "10.0.0.1", Tags: dill}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, err := read("web", []*api.ServiceEntry{&test.entry})
			if err != nil || len(s.Instances) != 1 || !source.EqualInstances(s.Instances, []source.Instance{test.want}) {
				t.Errorf("got %+v, %v; want %+v", s.Instances, err, test.want)
			}
		})
	}
}

func TestReadOrderAndSelection(t *testing.T) {
	at := func(node, id string, created uint64, tags ...string) *api.ServiceEntry {
		return &api.ServiceEntry{Node: &api.Node{Node: node}, Service: &api.AgentService{ID: id, CreateIndex: created, Tags: tags}}
	}
	mesh := at("n0", "proxy", 1, "dill")
	mesh.Service.Kind = api.ServiceKindConnectProxy
	s, err := read("web", []*api.ServiceEntry{
		at("n2", "a", 30, "dill"), at("n1", "b", 20, "dill"), at("n1", "a", 40, "dill.weight=1"), at("n1", "c", 10, "http"), at("n2", "a", 5, "dill"), mesh,
	})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, inst := range s.Instances {
		ids = append(ids, inst.ID)
	}
	if want := []string{"n1/a", "n1/b", "n2/a"}; !slices.Equal(ids, want) || s.CreateIndex != 20 {
		t.Errorf("got %q created at %d, want %q at 20", ids, s.CreateIndex, want)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(`[{"Node":{"Node":"n","Address":"1.2.3.4"},"Service":{"ID":"a","Port":1,"Tags":["dill"]},"Checks":[{"Status":"passing"}]}]`)
	f.Add(`[null]`)
	f.Add(`[{"Node":{},"Service":{"Tags":["dill",""]},"Checks":[null]},{}]`)
	f.Add(`[{"Node":{},"Service":{"Tags":["dill"],"Ports":[{"Port":-1,"Default":true}],"Weights":{"Passing":-1}}}]`)
	f.Fuzz(func(t *testing.T, text string) {
		var entries []*api.ServiceEntry
		if json.Unmarshal([]byte(text), &entries) != nil {
			return
		}
		s, err := read("web", entries)
		if err != nil {
			return
		}
		for i, inst := range s.Instances {
			if i > 0 && s.Instances[i-1].ID >= inst.ID {
				t.Errorf("%q is not before %q", s.Instances[i-1].ID, inst.ID)
			}
			if inst.Weight < source.NoTraffic || len(inst.Tags) == 0 || inst.CreateIndex < s.CreateIndex {
				t.Errorf("instance %+v of a service created at %d", inst, s.CreateIndex)
			}
			for _, tag := range inst.Tags {
				if tag != "dill" && !strings.HasPrefix(tag, "dill.") {
					t.Errorf("foreign tag %q", tag)
				}
			}
		}
		if again, _ := read("web", entries); !s.Equal(again) {
			t.Error("read differently the second time")
		}
	})
}

func TestLedger(t *testing.T) {
	node := check{Node: "n1", CheckID: "serfHealth", Status: "passing", ModifyIndex: 5}
	web := check{Node: "n1", CheckID: "c", Status: "passing", ServiceName: "web", ServiceID: "w", CreateIndex: 3, ModifyIndex: 6}
	with := func(c check, change func(*check)) check { change(&c); return c }
	tests := []struct {
		name            string
		before, after   []check
		services, nodes map[string]uint64
	}{
		{"the first time", nil, []check{node, web}, map[string]uint64{"web": 6}, map[string]uint64{"n1": 5}},
		{"nothing", []check{node, web}, []check{web, node}, nil, nil},
		{"output only", []check{web}, []check{with(web, func(c *check) { c.ModifyIndex = 9 })}, nil, nil},
		{"status", []check{web}, []check{with(web, func(c *check) { c.Status, c.ModifyIndex = "critical", 9 })}, map[string]uint64{"web": 9}, nil},
		{"tags", []check{web}, []check{with(web, func(c *check) { c.ServiceTags, c.ModifyIndex = []string{"dill"}, 9 })}, map[string]uint64{"web": 9}, nil},
		{"made anew", []check{web}, []check{with(web, func(c *check) { c.CreateIndex, c.ModifyIndex = 9, 9 })}, map[string]uint64{"web": 9}, nil},
		{"gone", []check{node, web}, nil, map[string]uint64{"web": always}, map[string]uint64{"n1": always}},
		{"to another service", []check{web}, []check{with(web, func(c *check) { c.ServiceName, c.ModifyIndex = "api", 9 })}, map[string]uint64{"web": always, "api": 9}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var l ledger
			if test.before != nil {
				l.update(test.before)
			}
			h := l.update(test.after)
			if !equalMaps(h.services, test.services) || !equalMaps(h.nodes, test.nodes) {
				t.Errorf("got %v and %v, want %v and %v", h.services, h.nodes, test.services, test.nodes)
			}
		})
	}
}

func equalMaps(a, b map[string]uint64) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return true
}

func TestInventory(t *testing.T) {
	known := func(index uint64, ids ...string) *tracked {
		t := &tracked{name: "web"}
		t.index = index
		for _, id := range ids {
			t.last.Instances = append(t.last.Instances, source.Instance{ID: id, Tags: []string{"dill"}})
		}
		return t
	}
	inv := make(inventory)
	inv.add("n1", []registration{
		{},
		{ID: "a", Service: "web", Tags: []string{"dill"}, ModifyIndex: 7},
		{ID: "b", Service: "web", Tags: []string{"dill"}, ModifyIndex: 8},
		{ID: "c", Service: "web", Tags: []string{"http"}, ModifyIndex: 99},
		{ID: "p", Service: "web", Tags: []string{"dill"}, ModifyIndex: 99, Kind: api.ServiceKindConnectProxy},
	})
	tests := []struct {
		name string
		have *tracked
		want bool
	}{
		{"the same", known(8, "n1/a", "n1/b"), false},
		{"one changed since", known(7, "n1/a", "n1/b"), true},
		{"one more", known(8, "n1/a"), true},
		{"one less", known(8, "n1/a", "n1/b", "n2/a"), true},
		{"another one", known(8, "n1/a", "n2/a"), true},
	}
	for _, test := range tests {
		if got := inv.outdated(test.have); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
	if other := (&tracked{name: "api"}); inv.outdated(other) {
		t.Error("a service without instances that is nowhere is outdated")
	}
}

func TestRiddle(t *testing.T) {
	services := map[string]*tracked{"web": {name: "web"}, "api": {name: "api"}}
	services["web"].index, services["api"].index = 7, 9
	tests := []struct {
		name    string
		indexes []uint64
		want    bool
	}{
		{"told by a service", []uint64{7}, true},
		{"told by two", []uint64{7, 9}, true},
		{"told by none", []uint64{8}, false},
		{"one of two told", []uint64{7, 8}, false},
		{"more than are kept", make([]uint64, riddlesKept+1), false},
	}
	for _, test := range tests {
		var r riddle
		for i, index := range test.indexes {
			r.add(index, time.Unix(int64(1+i), 0))
		}
		if r.since != time.Unix(1, 0) {
			t.Errorf("%s: since %v", test.name, r.since)
		}
		if got := r.solve(services); got != test.want || got != r.since.IsZero() {
			t.Errorf("%s: solved is %v, and %+v is left", test.name, got, r)
		}
	}
}

func TestSweepPace(t *testing.T) {
	var p sweepPace
	p.swept(time.Millisecond, 2, 1)
	if p.gap != sweepRest {
		t.Errorf("after a cheap sweep that found something, the next may come after %v", p.gap)
	}
	for range 10 {
		p.swept(time.Millisecond, 2, 0)
	}
	if p.gap != sweepGap {
		t.Errorf("after ten sweeps in vain the next may come after %v", p.gap)
	}
	p.swept(time.Millisecond, 100, 3)
	if p.gap != 100*requestRest || p.wait != riddleMost {
		t.Errorf("of 100 nodes it is %+v", p)
	}
	p.failed()
	if p.gap != sweepGap {
		t.Errorf("after a failure it is %+v", p)
	}
}
