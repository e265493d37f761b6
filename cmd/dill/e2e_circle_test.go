package main

import (
	"fmt"
	"net/netip"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"dill/dataplane/dptest"
)

// inThisNetwork runs ip(8).
func inThisNetwork(t *testing.T, args string) {
	t.Helper()
	if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", args, err, out)
	}
}

// counter is one that dill prints on SIGUSR1.
func (r *rig) counter(name string) (n int) {
	r.t.Helper()
	before := len(r.out.String())
	r.signal(syscall.SIGUSR1)
	value := regexp.MustCompile(`(?m)^` + name + ` (\d+)$`)
	r.eventually("dill prints its counters", func() bool {
		text := r.out.String()[before:]
		m := value.FindStringSubmatch(text)
		if m == nil || !strings.Contains(text, "gc_cycles ") {
			return false
		}
		n, _ = strconv.Atoi(m[1])
		return true
	})
	return n
}

// A backend whose address comes to this host has become dill's own listener: no
// client ever makes more than one connection, the backend is refused and does not
// linger, and it is served again when the address has gone. A route that leads
// here without an address is noticed by the attempt, until an address changes.
func TestAddressThatComesToThisHostMakesNoCircle(t *testing.T) {
	t.Parallel()
	if !isolated(t, "ip") {
		return
	}
	one, two, file := freeAddr(t).Port(), freeAddr(t).Port(), newRoutes(t)
	replace(t, file.path, fmt.Sprintf(`services:
- {name: vip, listener: any:%d, backends: ['10.77.0.1:%d']}
- {name: routed, listener: any:%d, backends: ['10.78.0.1:%d']}
`, one, one, two, two))
	r := launch(t, fmt.Sprintf("listeners.allowed.any = '0.0.0.0'\nfile.path = %q\nlisteners.linger = '1h'\n", file.path))
	at := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port) }
	clients := 0 // also those that meet a port which closes at that moment
	rejected := func(port uint16) error {
		clients++
		return dptest.Rejected(at(port), dptest.Socket{})
	}
	open := func(port uint16) {
		t.Helper()
		r.eventually(fmt.Sprintf("port %d is open", port), func() bool { return rejected(port) == nil })
	}
	open(one)
	open(two)
	if n := r.counter("connect_circle"); n != 0 {
		t.Errorf("%d circles before there is one", n)
	}

	inThisNetwork(t, "route add local 10.78.0.0/24 dev lo")
	for range 20 {
		must(t, rejected(two))
	}
	// Before the address is read, since then the backend is not in the table.
	r.says(`level=WARN msg="backend cannot be connected to" .* err="the connection would come back to dill"`)
	inThisNetwork(t, "addr add 10.77.0.1/32 dev lo")
	r.eventually("the port of the address is closed", func() bool { return rejected(one) != nil })
	r.peekSays(fmt.Sprintf(`\n├ file/vip \S+ dill.listener=any:%d: not served: connections would reach dill itself \(0.0.0.0:%d\)\n`, one, one))
	if text := r.table(); strings.Contains(text, "lingering") {
		t.Errorf("a backend that is refused lingers:\n%s", text)
	}
	if accepted, circles := r.counter("accepted"), r.counter("connect_circle"); accepted > clients || circles < 3 {
		t.Errorf("%d clients made %d connections, %d circles were seen", clients, accepted, circles)
	}
	inThisNetwork(t, "addr del 10.77.0.1/32 dev lo")
	open(one)
}
