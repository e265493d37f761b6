package main

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"dill/controlplane/consultest"
	"dill/dataplane/dptest"
)

// When clients have used up all that the data plane may open, each one more is
// reset, Peek answers, and Consul's news are followed.
func TestFullDataPlaneLeavesTheControlPlaneAlone(t *testing.T) {
	t.Parallel()
	const ports, clients = 300, 200
	agent := consultest.New(t, consultest.Options{})
	file := newRoutes(t)
	backend := serve(t, dptest.Echo)
	var entries []route
	var fronts []netip.AddrPort
	for i := range ports {
		fronts = append(fronts, freeAddr(t))
		entries = append(entries, route{fmt.Sprint("s", i), fronts[i], to(backend)})
	}
	file.set(entries...)
	r := &rig{t: t, config: filepath.Join(t.TempDir(), "dill.toml"), files: 1024}
	r.configure(fmt.Sprintf("consul.address = %q\nfile.path = %q\ndataplane.loops = 2\nlisteners.max = %d\n",
		agent.Addr(), file.path, 2*ports))
	r.start()
	one, port := talking(t, "one"), freeAddr(t)
	register(t, agent, "web", "web-1", one.Addr(), port)
	r.shows(port, one.Addr())
	r.shows(fronts[ports-1], backend.Addr())

	results := make(chan error, clients)
	for range clients {
		p, err := dptest.Connect(fronts[0], dptest.Socket{})
		if err != nil {
			results <- err
			continue
		}
		t.Cleanup(func() { _ = p.Close() })
		p.Mirror()
		p.Extend(2 * dptest.Patience)
		go func() { results <- p.Run(dptest.Write(10), dptest.Read(10)) }()
	}
	served, turned := 0, 0
	for range clients {
		switch err := <-results; {
		case err == nil:
			served++
		case dptest.IsReset(err):
			turned++
		default:
			t.Fatalf("after %d clients served and %d reset: %v", served, turned, err)
		}
	}
	limit := regexp.MustCompile(`msg="connection limit follows the ports" limit=(\d+)`)
	var last string
	for _, m := range limit.FindAllStringSubmatch(r.log.String(), -1) {
		last = m[1]
	}
	if want, _ := strconv.Atoi(last); served < 50 || turned == 0 || served > want+want/8 {
		t.Errorf("%d clients were served and %d reset; the log says the limit is %q", served, turned, last)
	}
	// Consul is still heard, and Peek tells.
	two := talking(t, "two")
	register(t, agent, "web", "web-2", two.Addr(), port)
	r.peekSays(regexp.QuoteMeta("├──➤ " + two.Addr().String() + "\n"))
	if err := agent.Deregister("web-1"); err != nil {
		t.Fatal(err)
	}
	r.shows(port, two.Addr())
}

// With more services than a tiny limit of open files has connections to Consul
// for, they leave Peek and clients theirs, and each service is followed.
func TestFewFilesForConsul(t *testing.T) {
	t.Parallel()
	const services, clients = 100, 40
	agent := consultest.New(t, consultest.Options{})
	backend := talking(t, "backend")
	ports := make([]netip.AddrPort, services)
	for i := range ports {
		ports[i] = freeAddr(t)
		name := fmt.Sprint("s", i)
		register(t, agent, name, name, backend.Addr(), ports[i])
	}
	r := &rig{t: t, config: filepath.Join(t.TempDir(), "dill.toml"), files: 64}
	r.configure(fmt.Sprintf("consul.address = %q\ndataplane.loops = 1\nlisteners.max = 8\n", agent.Addr()))
	r.start()
	r.peekSays(fmt.Sprintf(`\A([^\n]+\n├ round_robin\n├──➤ %s\n){8}\n`, regexp.QuoteMeta(backend.Addr().String())))
	port := netip.MustParseAddrPort(strings.SplitN(r.table(), "\n", 2)[0])
	served := slices.Index(ports, port)

	turned := 0
	for range clients {
		p, err := dptest.Connect(port, dptest.Socket{})
		if err == nil {
			t.Cleanup(func() { _ = p.Close() })
			_, err = p.Conn().Read(make([]byte, 1))
		}
		switch {
		case dptest.IsReset(err):
			turned++
		case err != nil:
			t.Fatalf("after %d clients were reset: %v", turned, err)
		}
	}
	if turned == 0 || turned == clients {
		t.Errorf("%d of %d clients were reset", turned, clients)
	}
	two := talking(t, "two")
	register(t, agent, fmt.Sprint("s", served), "two", two.Addr(), port)
	r.peekSays(regexp.QuoteMeta("├──➤ " + two.Addr().String() + "\n"))
}
