package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"dill/controlplane/consultest"
)

// promptly is how long "at once" may take where the alternative is an hour, on
// a machine that is busy with other tests.
const promptly = 5 * time.Second

// Registered, but critical: the port stays for listeners.linger and keeps
// trying the last passing set; then it closes, and who is connected goes on.
func TestOnlyInstanceCriticalKeepsThePortForTheLinger(t *testing.T) {
	t.Parallel()
	const linger = 3 * time.Second
	agent, r, one, port := serveOne(t, fmt.Sprintf("listeners.linger = '%v'\n", linger))
	live, probes := session(t, port, "one"), probe(t, port)
	probes.hear(t, "one", 10)

	critical := time.Now()
	must(t, agent.SetTTL("web-1", "critical"))
	r.says(fmt.Sprintf(`level=WARN msg="listener lingers" listener=%v owner=consul/web for=%v`, port, linger))
	r.peekSays(fmt.Sprintf(`\nlingering\n├ %v: no instance of consul/web is passing, those listed are tried for \ds more`, port))
	r.shows(port, one.Addr())
	probes.unharmedUntil(t, critical.Add(linger-500*time.Millisecond))
	probes.only(t, "one")

	r.closesWithin(linger, port)
	if after := time.Since(critical); after < linger {
		t.Errorf("closed after %v, want %v", after, linger)
	}
	r.says(fmt.Sprintf(`msg="port closed" listener=%v`, port))
	r.peekSays(`^nothing is served: no service that asks for a port has a passing instance`)
	finishes(t, live)
}

// A Consul that is gone does not prove that the instance is still critical: the
// port stays beyond the linger.
func TestLingerDoesNotEndWhileConsulIsSilent(t *testing.T) {
	t.Parallel()
	const linger = 2 * time.Second
	agent, r, _, port := serveOne(t, fmt.Sprintf("listeners.linger = '%v'\n", linger))
	probes := probe(t, port)

	must(t, agent.SetTTL("web-1", "critical"))
	r.peekSays(`\nlingering\n`)
	agent.Kill()
	r.says(`level=WARN msg="consul is not current"`)
	r.peekSays(fmt.Sprintf(`\nlingering\n├ %v: no instance of consul/web is passing, those listed are tried until that is confirmed\n`, port))
	probes.unharmedUntil(t, time.Now().Add(linger))
	probes.only(t, "one")
}

// Deregistered: the port closes at once, whatever the linger, and live
// sessions drain.
func TestDeregisteredOnlyInstanceClosesThePortAtOnce(t *testing.T) {
	t.Parallel()
	agent := consultest.New(t, consultest.Options{})
	r := launch(t, fmt.Sprintf("consul.address = %q\nlisteners.linger = '1h'\n", agent.Addr()))
	for _, before := range []string{"passing", "critical"} {
		one, port := talking(t, "one"), freeAddr(t)
		register(t, agent, before, before, one.Addr(), port)
		r.shows(port, one.Addr())
		live := session(t, port, "one")
		if before == "critical" {
			must(t, agent.SetTTL(before, "critical"))
			r.says(fmt.Sprintf(`msg="listener lingers" listener=%v`, port))
		}
		must(t, agent.Deregister(before))
		r.closesWithin(promptly, port)
		goesOn(t, live)
		finishes(t, live)
	}
}

// An instance that is critical for less than the linger is never missed.
func TestInstanceReturningWithinTheLingerLeavesNoGap(t *testing.T) {
	t.Parallel()
	const linger = 3 * time.Second
	agent, r, _, port := serveOne(t, fmt.Sprintf("listeners.linger = '%v'\n", linger))
	live, probes := session(t, port, "one"), probe(t, port)
	critical := time.Now()
	for range 2 {
		must(t, agent.SetTTL("web-1", "critical"))
		r.peekSays(`\nlingering\n`)
		probes.hear(t, "one", 20)
		must(t, agent.SetTTL("web-1", "passing"))
		r.eventually("nothing lingers", func() bool { return !strings.Contains(r.table(), "lingering") })
	}
	// The clock that was set has stopped.
	probes.unharmedUntil(t, critical.Add(linger+500*time.Millisecond))
	probes.only(t, "one")
	finishes(t, live)
	if strings.Contains(r.log.String(), `msg="port closed"`) {
		t.Error("the port was closed")
	}
}

// A service that flaps is told of, with its recoveries, until it repeats itself;
// how often it went on is told once in a while.
func TestFlappingServiceDoesNotFillTheLog(t *testing.T) {
	t.Parallel()
	const flips = 40
	agent, r, _, port := serveOne(t, "listeners.linger = '1h'\n")
	probes := probe(t, port)
	began := time.Now()
	for range flips {
		must(t, agent.SetTTL("web-1", "critical"))
		r.peekSays(`\nlingering\n`)
		must(t, agent.SetTTL("web-1", "passing"))
		r.eventually("nothing lingers", func() bool { return !strings.Contains(r.table(), "lingering") })
	}
	r.says(fmt.Sprintf(`listener=%v .*held_back=\d+`, port))
	most := damperBurst + int(time.Since(began)/damperEvery) + 1
	text := r.log.String()
	if n := strings.Count(text, fmt.Sprintf("listener=%v", port)); n > most {
		t.Errorf("%d flips are %d lines in the log, want at most %d", flips, n, most)
	}
	if !strings.Contains(text, "listener lingers") || !strings.Contains(text, `reason="an instance is served again"`) {
		t.Error("begin and end of the first lingering are not told")
	}
	probes.only(t, "one")
}

// The only instance is replaced, by one that is critical until its first check:
// every deployment of a single instance. Nobody is refused, and who is
// connected to the old one stays so.
func TestReplacementOfTheOnlyInstanceLeavesNoGap(t *testing.T) {
	t.Parallel()
	agent, r, _, port := serveOne(t, "listeners.linger = '1h'\n")
	two := talking(t, "two")
	live, probes := session(t, port, "one"), probe(t, port)

	must(t, agent.SetTTL("web-1", "critical"))
	probes.hear(t, "one", 10)
	next := instance("web", "web-2", two.Addr(), port)
	next.Checks = append(next.Checks, consultest.TTL("critical"))
	must(t, agent.Register(next))
	probes.hear(t, "one", 10)
	must(t, agent.Deregister("web-1"))
	probes.hear(t, "two", 10)
	r.peekSays(`\nlingering\n`)
	must(t, agent.SetTTL("web-2", "passing"))
	r.eventually("nothing lingers", func() bool { return !strings.Contains(r.table(), "lingering") })
	probes.hear(t, "two", 10)
	goesOn(t, live)
	probes.stop()
	finishes(t, live)
}

// An instance that is registered at another address while it is critical is
// tried there, and nobody is sent to where it was.
func TestLingerFollowsTheInstanceToItsNewAddress(t *testing.T) {
	t.Parallel()
	agent, r, _, port := serveOne(t, "listeners.linger = '1h'\n")
	two := talking(t, "two")
	probes := probe(t, port)

	must(t, agent.SetTTL("web-1", "critical"))
	r.peekSays(`\nlingering\n`)
	probes.hear(t, "one", 10)
	moved := instance("web", "web-1", two.Addr(), port)
	moved.Checks = append(moved.Checks, consultest.TTL("critical"))
	must(t, agent.Register(moved))
	r.shows(port, two.Addr())
	probes.hear(t, "two", 20)
	r.peekSays(`\nlingering\n`)
	must(t, agent.SetTTL("web-1", "passing"))
	r.says(fmt.Sprintf(`msg="listener no longer lingers" listener=%v owner=consul/web reason="an instance is served again"`, port))
	probes.hear(t, "two", 10)
}

// A service that comes back while sessions of its former life drain has its
// port as if they were not there.
func TestInstanceReturningWhileOldSessionsDrain(t *testing.T) {
	t.Parallel()
	agent, r, one, port := serveOne(t, "listeners.linger = '1h'\n")
	two := talking(t, "two")
	first := session(t, port, "one")

	must(t, agent.Deregister("web-1"))
	r.closesWithin(promptly, port)
	register(t, agent, "web", "web-2", two.Addr(), port)
	r.shows(port, two.Addr())
	second, probes := session(t, port, "two"), probe(t, port)
	goesOn(t, first)

	// The first instance itself returns, to new sessions beside its old one.
	register(t, agent, "web", "web-1", one.Addr(), port)
	r.shows(port, sorted(one, two)...)
	must(t, agent.Deregister("web-2"))
	r.shows(port, one.Addr())
	probes.hear(t, "one", 20)
	probes.stop()
	third := session(t, port, "one")
	finishes(t, second)
	finishes(t, first)
	finishes(t, third)
}
