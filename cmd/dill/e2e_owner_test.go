package main

import (
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"dill/controlplane/consultest"
	"dill/dataplane/dptest"
)

// contest is a port that two services claim: a has it, and b, which is older
// in Consul, would have it were it not for the incumbent.
type contest struct {
	agent *consultest.Agent
	rig   *rig
	a, b  *dptest.Backend
	port  netip.AddrPort
}

func newContest(t *testing.T, settings string) *contest {
	t.Helper()
	agent := consultest.New(t, consultest.Options{})
	c := &contest{
		agent: agent,
		rig:   launch(t, fmt.Sprintf("consul.address = %q\n", agent.Addr())+settings),
		a:     talking(t, "a"), b: talking(t, "b"), port: freeAddr(t),
	}
	own := freeAddr(t)
	register(t, agent, "b", "b-1", c.b.Addr(), own)
	c.rig.shows(own, c.b.Addr())
	register(t, agent, "a", "a-1", c.a.Addr(), c.port)
	c.rig.shows(c.port, c.a.Addr())
	register(t, agent, "b", "b-1", c.b.Addr(), own, c.port)
	c.rig.says(fmt.Sprintf(`level=WARN msg="claim refused" owner=consul/b instance=\S*/b-1 claim="?dill.listener=local:%d"? reason="owned by consul/a"`, c.port.Port()))
	c.refusesB(t)
	return c
}

// refusesB waits until Peek says that b does not get the port, and why.
func (c *contest) refusesB(t *testing.T) {
	t.Helper()
	c.rig.peekSays(fmt.Sprintf(`\nrefused\n├ consul/b \S*/b-1 dill.listener=local:%d: owned by consul/a\n`, c.port.Port()))
}

// The incumbent keeps its port through a rolling replacement of all of its
// instances, and while all of them are critical; the other service takes over
// when the last one leaves, without a gap.
func TestIncumbentKeepsThePortThroughARollingReplacement(t *testing.T) {
	t.Parallel()
	c := newContest(t, "")
	probes := probe(t, c.port)
	last := "a-1"
	for i := range 4 {
		next, backend := fmt.Sprintf("a-%d", i+2), talking(t, "a")
		register(t, c.agent, "a", next, backend.Addr(), c.port)
		// Once as slow as a careful deployment, once with no pause at all.
		if i%2 == 0 {
			c.rig.peekSays(fmt.Sprintf(`\n├──➤ %v\n`, backend.Addr()))
		}
		must(t, c.agent.Deregister(last))
		c.rig.shows(c.port, backend.Addr())
		probes.hear(t, "a", 10)
		last = next
	}
	c.refusesB(t)

	must(t, c.agent.SetTTL(last, "critical"))
	c.rig.peekSays(`\nlingering\n`)
	probes.hear(t, "a", 10)
	c.refusesB(t)
	must(t, c.agent.SetTTL(last, "passing"))
	probes.hear(t, "a", 10)
	probes.only(t, "a")

	takeover := probe(t, c.port)
	live := session(t, c.port, "a")
	must(t, c.agent.Deregister(last))
	takeover.hear(t, "b", 10)
	c.rig.says(fmt.Sprintf(`msg="listener changed" listener=%v owner=consul/b`, c.port))
	c.rig.shows(c.port, c.b.Addr())
	if text := c.rig.table(); strings.Contains(text, "refused") {
		t.Errorf("Peek still shows a refusal:\n%s", text)
	}
	if heard := takeover.stop(); len(heard) != 2 {
		t.Errorf("heard %v during the takeover", heard)
	}
	must(t, takeover.failure())
	finishes(t, live)
}

// An incumbent that is critical for longer than the linger loses its clients,
// not its claim.
func TestCriticalIncumbentDoesNotLoseThePort(t *testing.T) {
	t.Parallel()
	c := newContest(t, "listeners.linger = '100ms'\n")
	must(t, c.agent.SetTTL("a-1", "critical"))
	c.rig.closed(c.port)
	c.refusesB(t)
	must(t, c.agent.SetTTL("a-1", "passing"))
	c.rig.shows(c.port, c.a.Addr())
	probes := probe(t, c.port)
	probes.hear(t, "a", 10)
	probes.only(t, "a")
}

// With a state file the owner is an incumbent after a restart, too, for every
// client; without one the older service gets the port, once Consul was read.
func TestPersistedOwnerIsStillTheIncumbent(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, settings, owner string }{
		{"state file", fmt.Sprintf("state.path = %q\nconsul.settle = '1s'\n", t.TempDir()+"/state"), "a"},
		{"no state file", "", "b"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := newContest(t, test.settings)
			c.rig.signal(syscall.SIGTERM)
			c.rig.exits(exitOK)

			c.rig.start()
			c.rig.eventually("the port is open again", func() bool {
				_, err := hear(c.port)
				return err == nil
			})
			probes := probe(t, c.port)
			probes.hear(t, test.owner, 10)
			late := freeAddr(t) // what the live catalog has, and no file
			register(t, c.agent, "late", "late-1", c.a.Addr(), late)
			c.rig.shows(late, c.a.Addr())
			probes.hear(t, test.owner, 10)
			if test.owner != "a" {
				return
			}
			probes.only(t, "a")
			c.refusesB(t)
			must(t, c.agent.Deregister("a-1"))
			c.rig.shows(c.port, c.b.Addr())
		})
	}
}

// A backend that is one of dill's own listeners would send connections round
// in circles: it is refused, and nothing else is.
func TestBackendThatIsAListenerOfDillIsRefused(t *testing.T) {
	t.Parallel()
	agent := consultest.New(t, consultest.Options{})
	r := launch(t, fmt.Sprintf("consul.address = %q\n", agent.Addr()))
	good := talking(t, "good")
	web, self, circle, mixed, peek := freeAddr(t), freeAddr(t), freeAddr(t), freeAddr(t), freeAddr(t)
	register(t, agent, "web", "web-1", good.Addr(), web)
	r.shows(web, good.Addr())
	probes := probe(t, web)

	register(t, agent, "self", "self-1", self, self)      // its own port
	register(t, agent, "circle", "circle-1", web, circle) // that of another
	register(t, agent, "peek", "peek-1", r.peek, peek)    // dill's own
	register(t, agent, "mixed", "mixed-1", web, mixed)    // beside a good one
	register(t, agent, "mixed", "mixed-2", good.Addr(), mixed)
	for service, reached := range map[string]netip.AddrPort{"self": self, "circle": web, "peek": r.peek, "mixed": web} {
		const reason = `not served: connections would reach dill itself \(%v\)`
		r.peekSays(fmt.Sprintf(`\n├ consul/%s \S*/%s-1 dill.listener=local:\d+: `+reason+`\n`, service, service, reached))
		r.says(fmt.Sprintf(`level=WARN msg="claim refused" owner=consul/%s instance=\S*/%s-1 .*reason="`+reason+`"`, service, service, reached))
	}
	r.shows(mixed, good.Addr())
	r.shows(web, good.Addr())
	for _, port := range []netip.AddrPort{self, circle, peek} {
		r.closed(port)
	}
	onMixed := probe(t, mixed)
	onMixed.hear(t, "good", 10)
	onMixed.only(t, "good")

	probes.hear(t, "good", 10)
	probes.only(t, "good")
}

// A service that claims the port of another one's backend gets a reason, however
// often it asks, and nobody else notices: neither that one nor six of six others.
// What dill has bound it keeps when a backend is registered there.
func TestClaimOnABackendsPortHurtsNobody(t *testing.T) {
	t.Parallel()
	agent := consultest.New(t, consultest.Options{})
	r := launch(t, fmt.Sprintf("consul.address = %q\nlisteners.linger = '100ms'\n", agent.Addr()))
	var serving []*probes
	var backends, ports []netip.AddrPort
	for i := range 7 {
		name := fmt.Sprintf("honest-%d", i)
		backend, port := talking(t, name), freeAddr(t)
		register(t, agent, name, name, backend.Addr(), port)
		r.shows(port, backend.Addr())
		backends, ports = append(backends, backend.Addr()), append(ports, port)
		serving = append(serving, probe(t, port))
	}
	other := talking(t, "greedy")
	own := freeAddr(t)
	register(t, agent, "greedy", "greedy-1", other.Addr(), append(backends, own)...)
	for i, b := range backends {
		r.peekSays(fmt.Sprintf(`\n├ consul/greedy \S*/greedy-1 dill.listener=local:%d: taken by a backend of consul/honest-%d \(\S*/honest-%d at %v\)\n`, b.Port(), i, i, b))
	}
	r.shows(own, other.Addr())
	for i, p := range serving {
		p.hear(t, fmt.Sprintf("honest-%d", i), 20)
		p.only(t, fmt.Sprintf("honest-%d", i))
		r.shows(ports[i], backends[i])
	}
	if text := r.log.String(); strings.Contains(text, "would reach dill itself") || strings.Contains(text, "cannot be opened") {
		t.Error("a claim that is refused was tried")
	}

	// Registered later at a port that is dill's: that backend reaches nobody.
	greedy := probe(t, own)
	register(t, agent, "late", "late-1", own, freeAddr(t))
	r.peekSays(fmt.Sprintf(`consul/late \S*/late-1 dill.listener=local:\d+: not served: connections would reach dill itself \(%v\)`, own))
	greedy.hear(t, "greedy", 20)
	greedy.only(t, "greedy")
}

// A service that claims Consul's own port does not get it while Consul is away:
// nothing could be read from then on.
func TestPortOfConsulIsLeftToConsul(t *testing.T) {
	t.Parallel()
	agent := consultest.New(t, consultest.Options{})
	r := launch(t, fmt.Sprintf("consul.address = %q\n", agent.Addr()))
	_, digits, _ := strings.Cut(strings.TrimPrefix(agent.Addr(), "http://"), ":")
	greedy := instance("greedy", "greedy-1", talking(t, "greedy").Addr())
	greedy.Tags = append(greedy.Tags, "dill.listener=other:"+digits)
	must(t, agent.Register(greedy))
	r.peekSays(fmt.Sprintf(`\n├ consul/greedy \S*/greedy-1 dill.listener=other:%s: taken by what dill itself asks \(consul.address\)\n`, digits))
	agent.Kill()
	r.says(`msg="consul is not current"`)
	must(t, agent.Restart(t.Context()))
	r.says(`msg="consul is current again"`)
}

// A backend that is bound to all addresses gets its port back when it is started
// again, whichever address it is registered at and whoever claims that port on
// another. Where each is bound to an address of its own, both are served, also
// after a restart of dill.
func TestBackendOnAllAddressesIsNotLockedOut(t *testing.T) {
	t.Parallel()
	if !isolated(t, "ip") {
		return
	}
	inThisNetwork(t, "addr add 10.77.0.1/32 dev lo")
	here := netip.MustParseAddr("10.77.0.1")
	agent := consultest.New(t, consultest.Options{})
	r := launch(t, fmt.Sprintf("consul.address = %q\nlisteners.linger = '100ms'\n", agent.Addr()))
	everywhere := dptest.ListenOn(t, netip.AddrPortFrom(netip.IPv4Unspecified(), freeAddr(t).Port()), dptest.Socket{}, dptest.Say("a"))
	port := everywhere.Addr().Port()
	front, claimed, both := freeAddr(t), netip.AddrPortFrom(label(t), port), freeAddr(t)
	register(t, agent, "a", "a-1", netip.AddrPortFrom(here, port), front)
	r.answers(front, "a")

	h, own := saying(t, "h"), freeAddr(t)
	register(t, agent, "h", "h-1", h.Addr(), claimed, own)
	r.answers(own, "h")
	refused := fmt.Sprintf(`\n├ consul/h \S*/h-1 dill.listener=local:%d: taken by a backend of consul/a \(\S*/a-1 at %v:%d\): %v is in use\n`, port, here, port, claimed)
	r.peekSays(refused)
	for range 2 {
		everywhere.Stop()
		dptest.Steady(t, time.Second, "nobody takes the port of a backend that is away", func() bool { return !dptest.Listening(t, claimed) })
		everywhere.Start(t)
		r.answers(front, "a")
	}

	one := dptest.ListenOn(t, netip.AddrPortFrom(here, both.Port()), dptest.Socket{}, dptest.Say("one"))
	onward := freeAddr(t)
	register(t, agent, "one", "one-1", one.Addr(), onward)
	two := saying(t, "two")
	register(t, agent, "two", "two-1", two.Addr(), both)
	for range 2 {
		r.answers(onward, "one")
		r.answers(both, "two")
		r.shows(both, two.Addr())
		r.signal(syscall.SIGTERM)
		r.exits(exitOK)
		r.start()
		r.peekSays(refused)
	}
	everywhere.Stop()
	must(t, agent.Deregister("a-1"))
	r.answers(claimed, "h")
}
