package main

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"dill/controlplane/consultest"
)

// elsewhere is the name of a node on which no agent runs.
const elsewhere = "elsewhere"

// registerElsewhere is register on that node, without a check.
func registerElsewhere(t *testing.T, agent *consultest.Agent, service, id string, backend netip.AddrPort, listeners ...netip.AddrPort) {
	t.Helper()
	s := instance(service, id, backend, listeners...)
	_, err := agent.Client().Catalog().Register(&api.CatalogRegistration{
		Node: elsewhere, Address: "127.0.0.2",
		Service: &api.AgentService{ID: s.ID, Service: s.Name, Address: s.Address, Port: s.Port, Tags: s.Tags},
	}, nil)
	must(t, err)
}

// Maintenance, of a service or of its node, is a drain: new connections go to
// the other instance at once, and established sessions live on.
func TestMaintenanceDrainsAtOnce(t *testing.T) {
	t.Parallel()
	agent, r, one, port := serveOne(t, "listeners.linger = '1h'\n")
	two := talking(t, "two")
	live, probes := session(t, port, "one"), probe(t, port)
	registerElsewhere(t, agent, "web", "web-2", two.Addr(), port)
	r.shows(port, sorted(one, two)...)

	local := agent.Client().Agent()
	for _, of := range []struct {
		name     string
		on, over func() error
	}{
		{"service",
			func() error { return local.EnableServiceMaintenance("web-1", "a test") },
			func() error { return local.DisableServiceMaintenance("web-1") }},
		{"node",
			func() error { return local.EnableNodeMaintenance("a test") },
			local.DisableNodeMaintenance},
	} {
		must(t, of.on())
		r.within(promptly, of.name+" maintenance takes effect", func() bool {
			return !strings.Contains(r.table(), fmt.Sprintf("──➤ %v\n", one.Addr()))
		})
		r.shows(port, two.Addr())
		probes.hear(t, "two", 1) // what was under way is over
		accepted := one.Accepted()
		probes.hear(t, "two", 20)
		if n := one.Accepted() - accepted; n > 0 {
			t.Errorf("%d new connections in %s maintenance", n, of.name)
		}
		goesOn(t, live)
		must(t, of.over())
		r.shows(port, sorted(one, two)...)
		probes.hear(t, "one", 1)
	}
	probes.stop()
	must(t, probes.failure())
	finishes(t, live)
}

// When the only instance is in maintenance somebody drains it: the port closes
// at once, whatever the linger, established sessions live on, and the port is
// back with the end of the maintenance.
func TestMaintenanceOfTheOnlyInstanceClosesThePortAtOnce(t *testing.T) {
	t.Parallel()
	agent, r, one, port := serveOne(t, "listeners.linger = '1h'\n")
	live := session(t, port, "one")

	// It is not taken for a failure after one, either.
	for _, before := range []string{"passing", "critical"} {
		must(t, agent.SetTTL("web-1", before))
		if before == "critical" {
			r.peekSays(`\nlingering\n`)
		}
		must(t, agent.Client().Agent().EnableServiceMaintenance("web-1", "a test"))
		r.closesWithin(promptly, port)
		r.peekSays(`^nothing is served: no service that asks for a port has a passing instance`)
		goesOn(t, live)
		must(t, agent.SetTTL("web-1", "passing"))
		must(t, agent.Client().Agent().DisableServiceMaintenance("web-1"))
		r.shows(port, one.Addr())
		finishes(t, session(t, port, "one"))
	}
	finishes(t, live)
}

// A warning instance is left out like a critical one, unless
// consul.allow_warning admits it.
func TestWarningInstanceIsLeftOut(t *testing.T) {
	t.Parallel()
	const linger = 2 * time.Second
	agent := consultest.New(t, consultest.Options{})
	r := launch(t, fmt.Sprintf("consul.address = %q\nconsul.allow_warning = false\nlisteners.linger = '%v'\n", agent.Addr(), linger))
	one, two, port, alone := talking(t, "one"), talking(t, "two"), freeAddr(t), freeAddr(t)
	register(t, agent, "web", "web-1", one.Addr(), port)
	registerWarning(t, agent, "web", "web-2", two.Addr(), port)
	registerWarning(t, agent, "alone", "alone-1", two.Addr(), alone)
	r.shows(port, one.Addr())
	probes := probe(t, port)
	probes.hear(t, "one", 20)

	// What was there for the last time before it warned is tried for the linger.
	must(t, agent.SetTTL("web-1", "warning"))
	r.peekSays(fmt.Sprintf(`\nlingering\n├ %v: no instance of consul/web is passing`, port))
	probes.hear(t, "one", 20)
	probes.only(t, "one")
	r.closed(port)
	if strings.Contains(r.log.String(), fmt.Sprintf(`msg="port opened" listener=%v`, alone)) {
		t.Error("a service with nothing but warnings was served")
	}

	must(t, agent.SetTTL("web-2", "passing"))
	must(t, agent.SetTTL("alone-1", "passing"))
	r.shows(port, two.Addr())
	r.shows(alone, two.Addr())
}

// With consul.allow_warning it is served, at its weight for that state.
func TestWarningInstanceIsAdmittedAtItsWarningWeight(t *testing.T) {
	t.Parallel()
	agent := consultest.New(t, consultest.Options{})
	r := launch(t, fmt.Sprintf("consul.address = %q\nconsul.allow_warning = true\n", agent.Addr()))
	one, two, port, alone := saying(t, "one"), saying(t, "two"), freeAddr(t), freeAddr(t)
	register(t, agent, "web", "web-1", one.Addr(), port)
	registerWarning(t, agent, "web", "web-2", two.Addr(), port)
	registerWarning(t, agent, "alone", "alone-1", two.Addr(), alone)
	r.shows(port, sorted(one, two)...)
	r.answers(alone, "two")

	shares := func(ones, twos int) {
		t.Helper()
		heard := map[string]int{}
		for range ones + twos {
			heard[ask(t, port)]++
		}
		if heard["one"] != ones || heard["two"] != twos {
			t.Errorf("heard %v, want %d times one and %d times two", heard, ones, twos)
		}
	}
	shares(5, 5*warningWeight)
	must(t, agent.SetTTL("web-2", "passing"))
	r.says(`msg="backend changed" .*instance=\S*/web-2`)
	shares(5, 5*passingWeight)
	must(t, agent.SetTTL("web-2", "critical"))
	r.shows(port, one.Addr())
	must(t, agent.SetTTL("web-2", "warning"))
	r.shows(port, sorted(one, two)...)
	shares(5, 5*warningWeight)
}

// The weights of what registerWarning registers.
const passingWeight, warningWeight = 8, 3

// registerWarning is register, with a check that warns.
func registerWarning(t *testing.T, agent *consultest.Agent, service, id string, backend netip.AddrPort, listeners ...netip.AddrPort) {
	t.Helper()
	s := instance(service, id, backend, listeners...)
	s.Weights = &api.AgentWeights{Passing: passingWeight, Warning: warningWeight}
	s.Checks = append(s.Checks, consultest.TTL("warning"))
	must(t, agent.Register(s))
}
