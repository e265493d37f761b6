package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dill/controlplane/consultest"
	"dill/dataplane/dptest"
)

// silence is a network that swallows everything between dill and an agent.
type silence struct {
	address    string        // that dill is to use for Consul
	notices    time.Duration // dill has to notice within
	settings   string        // of dill's besides
	begin, end func(*testing.T)
}

// check has dill serve through the silence: it is noticed and shown, with its
// age, no port suffers, and once it has ended what changed meanwhile is current
// within 5 s. register must work all the while.
func (s silence) check(t *testing.T, register func(service, id string, backend, listener netip.AddrPort)) {
	t.Helper()
	r := launch(t, fmt.Sprintf("consul.address = %q\n%s"+unsettled, s.address, s.settings))
	one, two, port, late := saying(t, "hello"), saying(t, "hello"), freeAddr(t), freeAddr(t)
	register("web", "web-1", one.Addr(), port)
	r.answers(port, "hello")
	serving := probe(t, port)

	s.begin(t)
	began := time.Now()
	register("web", "web-2", two.Addr(), port)
	register("late", "late", one.Addr(), late)
	r.ages(s.notices)
	t.Logf("noticed after %v", time.Since(began))
	r.says(`level=WARN msg="consul is not current"`)
	r.shows(port, one.Addr())

	s.end(t)
	ended := time.Now()
	r.within(5*time.Second, "the table is current", func() bool {
		text := r.table()
		return strings.Count(text, "──➤") == 3 && !strings.Contains(text, "\nstale\n")
	})
	t.Logf("current %v after the end of the silence", time.Since(ended))
	r.shows(port, sorted(one, two)...)
	r.answers(late, "hello")
	serving.only(t, "hello")
	r.unharmed()
}

// hasty lets a query that waits for nothing be overdue after 8 s. It is 49.5 s
// by default; package consul tests that without waiting so long.
const hasty = "consul.wait = '1s'\n"

// An agent that is stopped holds its connections, and the kernel still
// acknowledges what is sent to it.
func TestStoppedAgentIsNoticedAndHealingTakesFiveSeconds(t *testing.T) {
	t.Parallel()
	agent := consultest.New(t, consultest.Options{})
	s := silence{
		address: agent.Addr(), settings: hasty, notices: time.Minute,
		begin: func(t *testing.T) { must(t, agent.Stop()) },
		end:   func(t *testing.T) { must(t, agent.Cont()) },
	}
	var pending sync.WaitGroup // until it goes on
	t.Cleanup(pending.Wait)
	s.check(t, func(service, id string, backend, listener netip.AddrPort) {
		if service+"-1" == id {
			register(t, agent, service, id, backend, listener)
			return
		}
		pending.Go(func() {
			if err := agent.Register(instance(service, id, backend, listener)); err != nil {
				t.Error(err)
			}
		})
	})
}

// A proxy between dill and Consul goes silent, and has forgotten every
// connection when it works again.
func TestSilentProxyIsNoticedAndHealingTakesFiveSeconds(t *testing.T) {
	t.Parallel()
	agent := consultest.New(t, consultest.Options{})
	p := newSilentProxy(t, strings.TrimPrefix(agent.Addr(), "http://"))
	s := silence{
		address: "http://" + p.ln.Addr().String(), settings: hasty, notices: time.Minute,
		begin: func(*testing.T) { p.set(true) },
		end:   func(*testing.T) { p.set(false) },
	}
	s.check(t, func(service, id string, backend, listener netip.AddrPort) {
		register(t, agent, service, id, backend, listener)
	})
}

// silentProxy relays to target, or swallows everything. A connection that it
// swallowed something of stays silent for good.
type silentProxy struct {
	ln     net.Listener
	target string
	ctx    context.Context // ends with the test
	wg     sync.WaitGroup

	mu     sync.Mutex
	silent bool
}

func newSilentProxy(t *testing.T, target string) *silentProxy {
	t.Helper()
	syscall.ForkLock.RLock()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	syscall.ForkLock.RUnlock()
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	p := &silentProxy{ln: ln, target: target, ctx: ctx}
	p.wg.Go(p.serve)
	t.Cleanup(func() {
		cancel()
		ln.Close()
		p.wg.Wait()
	})
	return p
}

func (p *silentProxy) set(silent bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent = silent
}

func (p *silentProxy) isSilent() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.silent
}

func (p *silentProxy) serve() {
	for {
		near, err := p.ln.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", p.target)
		if err != nil {
			near.Close()
			continue
		}
		context.AfterFunc(p.ctx, func() { near.Close(); far.Close() })
		p.wg.Go(func() { p.carry(far, near) })
		p.wg.Go(func() { p.carry(near, far) })
	}
}

func (p *silentProxy) carry(to, from net.Conn) {
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if p.isSilent() {
			_, _ = io.Copy(io.Discard, from)
			return
		}
		if _, e := to.Write(buf[:n]); err != nil || e != nil {
			return
		}
	}
}

// inNamespace says that the process is a test binary that was started again in
// a network namespace of its own.
const inNamespace = "DILL_TEST_IN_NAMESPACE"

// isolated has the test run in a network namespace, by starting the test binary
// again for this test alone, and reports whether this is that process. It skips
// the test where that is not permitted, or without this program.
func isolated(t *testing.T, program string) bool {
	t.Helper()
	if os.Getenv(inNamespace) != "" {
		if err := dptest.RaiseLoopback(); err != nil {
			t.Skip("no rights in the namespace: ", err)
		}
		return true
	}
	if _, err := exec.LookPath(program); err != nil {
		t.Skip("the test needs ", program, ": ", err)
	}
	self, err := os.Executable()
	must(t, err)
	cmd := exec.Command(self, "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=3m")
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	out, err := cmd.CombinedOutput()
	switch {
	case err != nil && cmd.ProcessState == nil:
		t.Skip("no network namespaces here: ", err)
	case err != nil:
		t.Fatalf("%v\n%s", err, out)
	case strings.Contains(string(out), "--- SKIP"):
		t.Skipf("%s", out)
	}
	t.Logf("%s", out)
	return false
}

// nft applies rules in the namespace that the process runs in.
func nft(rules string) error {
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, out)
	}
	return nil
}

// Every packet between dill and Consul is dropped. Nothing is lowered: the
// kernel finds out for dill.
func TestPartitionIsNoticedWithinAMinuteAndHealingTakesFiveSeconds(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	if !isolated(t, "nft") {
		return
	}
	// dill's way to the agent has an address of its own, so that the test's
	// stays open.
	const cut = "127.0.0.2"
	agent := consultest.New(t, consultest.Options{Extra: `addresses { http = "127.0.0.1 ` + cut + `" }`})
	if err := nft("table inet partition {}\n"); err != nil {
		t.Skip("not permitted to drop packets: ", err)
	}
	s := silence{
		address: strings.Replace(agent.Addr(), "127.0.0.1", cut, 1), notices: time.Minute,
		begin: func(t *testing.T) {
			must(t, nft("table inet partition { chain c { type filter hook output priority 0; ip saddr "+cut+" drop; ip daddr "+cut+" drop; }; }\n"))
		},
		end: func(t *testing.T) { must(t, nft("delete table inet partition\n")) },
	}
	s.check(t, func(service, id string, backend, listener netip.AddrPort) {
		register(t, agent, service, id, backend, listener)
	})
}
