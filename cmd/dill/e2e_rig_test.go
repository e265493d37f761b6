package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dill/dataplane/dptest"
)

// rig is dill in a process of its own, with Peek on.
type rig struct {
	t      *testing.T
	config string // path of its configuration
	files  int    // limit of open files; 0 = the test's own
	cmd    *exec.Cmd
	log    *transcript // standard error
	out    *transcript // standard output
	peek   netip.AddrPort
	ended  chan struct{} // closed when it has been reaped
}

// transcript collects what a process writes, for tests that wait for it.
type transcript struct {
	mu   sync.Mutex
	text []byte
}

func (t *transcript) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	return len(b), nil
}

func (t *transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}

// launch starts dill with a TOML configuration, to which it adds Peek and an
// address for the label local that other tests do not use, and waits until it
// runs. It ends with the test.
func launch(t *testing.T, settings string, environ ...string) *rig {
	t.Helper()
	r := &rig{t: t, config: filepath.Join(t.TempDir(), "dill.toml")}
	r.configure(settings)
	r.start(environ...)
	return r
}

// label is the address that the label local stands for in these tests.
func label(t *testing.T) netip.Addr { return freeAddr(t).Addr() }

func (r *rig) configure(settings string) {
	r.t.Helper()
	// Ports that are source ports, too, would be warned of.
	common := fmt.Sprintf("listeners.port_max = 32767\npeek.listener = '127.0.0.1:0'\nlisteners.allowed.local = '%s'\nlisteners.allowed.other = '127.0.0.1'\n", label(r.t))
	replace(r.t, r.config, common+settings)
}

// replace writes a file the way editors do: beside it, then renamed over it.
func replace(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

var peekAttr = regexp.MustCompile(`msg="dill runs".* peek=(\S+)`)

func (r *rig) start(environ ...string) {
	r.t.Helper()
	r.run(environ...)
	r.eventually("dill runs", func() bool {
		m := peekAttr.FindStringSubmatch(r.log.String())
		if m == nil {
			return false
		}
		r.peek = netip.MustParseAddrPort(m[1])
		return true
	})
}

// run starts the process. It ends with the test.
func (r *rig) run(environ ...string) {
	r.t.Helper()
	r.log, r.out, r.ended = new(transcript), new(transcript), make(chan struct{})
	r.cmd = exec.Command("dill", "-config", r.config)
	if r.files > 0 {
		// The hard limit, too, to which dill raises its own.
		r.cmd = exec.Command("sh", "-c", `ulimit -n "$0" && exec dill -config "$1"`, fmt.Sprint(r.files), r.config)
	}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "DILL_") && !strings.HasPrefix(v, "CONSUL_") {
			r.cmd.Env = append(r.cmd.Env, v)
		}
	}
	r.cmd.Env = append(r.cmd.Env, environ...)
	r.cmd.Stdout, r.cmd.Stderr = r.out, r.log
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	go func() {
		_ = r.cmd.Wait() // ProcessState has it
		close(r.ended)
	}()
	r.t.Cleanup(func() {
		_ = r.cmd.Process.Kill() // it may have ended
		<-r.ended
		if r.t.Failed() {
			r.t.Logf("dill's log:\n%s", r.log)
		}
	})
}

// eventually waits for a condition, and no longer than dill lives.
func (r *rig) eventually(what string, cond func() bool) {
	r.t.Helper()
	r.within(dptest.Patience, what, cond)
}

func (r *rig) within(limit time.Duration, what string, cond func() bool) {
	r.t.Helper()
	gone := false
	dptest.Within(r.t, limit, what, func() bool {
		select {
		case <-r.ended:
			gone = true
			return true
		default:
			return cond()
		}
	})
	if gone && !cond() {
		r.t.Fatalf("dill ended while the test waited: %s", what)
	}
}

// says waits until the log has a line that matches.
func (r *rig) says(pattern string) {
	r.t.Helper()
	line := regexp.MustCompile(pattern)
	r.eventually("the log says "+pattern, func() bool { return line.MatchString(r.log.String()) })
}

// logged waits until the log has a message so many times, which may be a moment
// after the event shows, and checks that it has it no more often.
func (r *rig) logged(want int, msg string) {
	r.t.Helper()
	count := func() int { return strings.Count(r.log.String(), fmt.Sprintf("msg=%q", msg)) }
	r.eventually(fmt.Sprintf("the log says %d times %s", want, msg), func() bool { return count() >= want })
	if n := count(); n != want {
		r.t.Errorf("the log says %d times %s, want %d", n, msg, want)
	}
}

// peekSays waits until Peek's answer matches.
func (r *rig) peekSays(pattern string) {
	r.t.Helper()
	text := regexp.MustCompile(pattern)
	last := ""
	if !dptest.Poll(dptest.Patience, func() bool {
		last = r.table()
		return text.MatchString(last)
	}) {
		r.t.Fatalf("Peek does not say %s but\n%s", pattern, last)
	}
}

// table is Peek's answer.
func (r *rig) table() string {
	text, err := dptest.Ask(r.peek)
	if err != nil {
		return err.Error()
	}
	return text
}

// shows waits until Peek shows exactly this listener and these backends
// somewhere in its table.
func (r *rig) shows(listener netip.AddrPort, backends ...netip.AddrPort) {
	r.t.Helper()
	var want strings.Builder
	want.WriteString(listener.String() + "\n├ round_robin\n")
	for _, b := range backends {
		want.WriteString("├──➤ " + b.String() + "\n")
	}
	last := ""
	if !dptest.Poll(dptest.Patience, func() bool {
		last = "\n" + r.table()
		_, rest, found := strings.Cut(last, "\n"+want.String())
		return found && !strings.HasPrefix(rest, "├──➤")
	}) {
		r.t.Fatalf("Peek does not show\n%s\nbut%s", want.String(), last)
	}
}

// closed waits until nobody accepts at addr any more.
func (r *rig) closed(addr netip.AddrPort) {
	r.t.Helper()
	r.closesWithin(dptest.Patience, addr)
}

func (r *rig) closesWithin(limit time.Duration, addr netip.AddrPort) {
	r.t.Helper()
	r.within(limit, fmt.Sprintf("%v is closed", addr), func() bool {
		p, err := dptest.Connect(addr, dptest.Socket{})
		if err == nil {
			_ = p.Reset() // a mere close would leave a half-closed session behind
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
}

// answers waits until whoever connects to addr is told want.
func (r *rig) answers(addr netip.AddrPort, want string) {
	r.t.Helper()
	r.eventually(fmt.Sprintf("%v answers %q", addr, want), func() bool {
		got, err := dptest.Ask(addr)
		return err == nil && got == want
	})
}

func (r *rig) signal(s syscall.Signal) {
	r.t.Helper()
	if err := r.cmd.Process.Signal(s); err != nil {
		r.t.Fatal(err)
	}
}

// exits waits for dill's end and its status.
func (r *rig) exits(status int) {
	r.t.Helper()
	dptest.Eventually(r.t, "dill ends", func() bool {
		select {
		case <-r.ended:
			return true
		default:
			return false
		}
	})
	if got := r.cmd.ProcessState.ExitCode(); got != status {
		r.t.Errorf("exit status %d, want %d", got, status)
	}
}

// routes is a routing file that tests change.
type routes struct {
	t    *testing.T
	path string
}

func newRoutes(t *testing.T) *routes {
	return &routes{t, filepath.Join(t.TempDir(), "routes.yaml")}
}

// set replaces the file's content: name, listener, backends, in turns.
func (r *routes) set(entries ...route) {
	r.t.Helper()
	text := "services:\n"
	if len(entries) == 0 {
		text = "services: []\n"
	}
	for _, e := range entries {
		text += fmt.Sprintf("- name: %s\n  listener: local:%d\n  backends:\n", e.name, e.listener.Port())
		for _, b := range e.backends {
			text += fmt.Sprintf("  - %s\n", b)
		}
	}
	replace(r.t, r.path, text)
}

// route is one entry of a routing file.
type route struct {
	name     string
	listener netip.AddrPort
	backends []netip.AddrPort
}

func to(backends ...*dptest.Backend) []netip.AddrPort {
	var addrs []netip.AddrPort
	for _, b := range backends {
		addrs = append(addrs, b.Addr())
	}
	return addrs
}

// freeAddr, listen and serve are those of dptest, kept from overlapping a fork:
// for the instant before it executes its program, a child that another test
// starts holds copies of the sockets here, and their ports are in use.
func freeAddr(t *testing.T) netip.AddrPort {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return dptest.FreeAddr(t)
}

func listen(t *testing.T) *dptest.Backend { return serve(t, nil) }

func serve(t *testing.T, handle func(*dptest.Peer)) *dptest.Backend {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return dptest.Serve(t, handle)
}

// saying is a backend that tells everybody text.
func saying(t *testing.T, text string) *dptest.Backend {
	t.Helper()
	return serve(t, dptest.Say(text))
}

// ask is one answer of addr.
func ask(t *testing.T, addr netip.AddrPort) string {
	t.Helper()
	text, err := dptest.Ask(addr)
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return text
}
