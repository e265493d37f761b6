package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"dill/dataplane/dptest"
)

// With only a routing file there is no Consul, and an edit of the file opens
// and closes ports while a transfer on another port goes on unharmed.
func TestFileSourceAloneOpensAndClosesPortsDuringATransfer(t *testing.T) {
	t.Parallel()
	files, sink := newRoutes(t), listen(t)
	hello := saying(t, "hello")
	transfer, first, second := freeAddr(t), freeAddr(t), freeAddr(t)
	files.set(route{"transfer", transfer, to(sink)}, route{"first", first, to(hello)})
	r := launch(t, fmt.Sprintf("file.path = %q\n", files.path))
	r.shows(transfer, sink.Addr())
	r.answers(first, "hello")

	client := dptest.Dial(t, transfer)
	server := sink.Accept(t)
	dptest.Pair(client, server)
	const half = 32 << 20
	begun, edited := dptest.NewEvent(), dptest.NewEvent()
	go func() {
		if !begun.Wait() {
			return
		}
		files.set(route{"transfer", transfer, to(sink)}, route{"second", second, to(hello)})
		if dptest.Poll(dptest.Patience, func() bool {
			text, err := dptest.Ask(second)
			return err == nil && text == "hello"
		}) {
			edited.Fire()
		}
	}()
	dptest.Play(t,
		dptest.Role{Peer: client, Ops: []dptest.Op{
			dptest.Write(half), dptest.Fire(begun), dptest.Await(edited), dptest.Write(half), dptest.HalfClose(), dptest.ReadToEOF(0),
		}},
		dptest.Role{Peer: server, Ops: []dptest.Op{dptest.ReadToEOF(2 * half), dptest.Close()}},
	)
	r.closed(first)

	// A broken edit changes nothing.
	replace(t, files.path, "services: [{name: broken, listener: ]")
	r.says("routing .*")
	dptest.Steady(t, 300*time.Millisecond, "the port serves", func() bool { return ask(t, second) == "hello" })
	if strings.Contains(r.log.String(), "consul") {
		t.Error("Consul is asked although only a file is configured")
	}
}

// After SIGTERM nobody new is accepted, and who is there may finish.
func TestTermDrains(t *testing.T) {
	t.Parallel()
	files, sink, port := newRoutes(t), listen(t), freeAddr(t)
	files.set(route{"web", port, to(sink)})
	r := launch(t, fmt.Sprintf("file.path = %q\nstate.path = %q\n", files.path, files.path+".state"))
	r.shows(port, sink.Addr())
	client := dptest.Dial(t, port)
	server := sink.Accept(t)
	dptest.Pair(client, server)
	client.Must(t, dptest.Write(1000))
	server.Must(t, dptest.Read(1000))

	r.signal(syscall.SIGTERM)
	r.closed(port)
	dptest.Play(t,
		dptest.Role{Peer: client, Ops: []dptest.Op{dptest.Write(8 << 20), dptest.HalfClose(), dptest.ReadToEOF(1 << 20)}},
		dptest.Role{Peer: server, Ops: []dptest.Op{dptest.ReadToEOF(8<<20 + 1000), dptest.Write(1 << 20), dptest.Close()}},
	)
	r.exits(exitOK)
	if strings.Contains(r.log.String(), "connections reset that did not finish") {
		t.Error("a connection was reset")
	}
	if r.out.String() != "" {
		t.Errorf("printed at the end:\n%s", r.out)
	}
}

// What has not finished within shutdown.timeout is reset: a cut transfer never
// looks like a complete one.
func TestShutdownTimeoutResetsTheRest(t *testing.T) {
	t.Parallel()
	r, client, server := held(t, "shutdown.timeout = '200ms'\n")
	r.signal(syscall.SIGTERM)
	dptest.Play(t,
		dptest.Role{Peer: client, Ops: []dptest.Op{dptest.ReadToReset(0)}},
		dptest.Role{Peer: server, Ops: []dptest.Op{dptest.ReadToReset(0)}},
	)
	r.exits(exitOK)
	if !strings.Contains(r.log.String(), `msg="connections reset that did not finish" sessions=1`) {
		t.Error("the reset is not told")
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	r, client, server := held(t, "shutdown.timeout = '1h'\n")
	r.signal(syscall.SIGINT)
	r.says(`msg="dill ends" signal=interrupt`)
	r.signal(syscall.SIGTERM)
	dptest.Play(t,
		dptest.Role{Peer: client, Ops: []dptest.Op{dptest.ReadToReset(0)}},
		dptest.Role{Peer: server, Ops: []dptest.Op{dptest.ReadToReset(0)}},
	)
	r.exits(exitFailed)
}

// held is a dill with one connection that nobody uses.
func held(t *testing.T, settings string) (r *rig, client, server *dptest.Peer) {
	t.Helper()
	files, sink, port := newRoutes(t), listen(t), freeAddr(t)
	files.set(route{"web", port, to(sink)})
	r = launch(t, fmt.Sprintf("file.path = %q\n", files.path)+settings)
	r.shows(port, sink.Addr())
	client = dptest.Dial(t, port)
	server = sink.Accept(t)
	dptest.Pair(client, server)
	return r, client, server
}

func TestUSR1PrintsCounters(t *testing.T) {
	t.Parallel()
	r, _, _ := held(t, "")
	r.signal(syscall.SIGUSR1)
	r.eventually("counters are printed", func() bool {
		text := r.out.String()
		return strings.HasPrefix(text, "sessions 1\nsessions_limit ") && strings.Contains(text, "\naccepted 1\n") && strings.Contains(text, "\ngc_cycles ")
	})
}

// Whoever reads dill's log may die; dill goes on.
func TestLogReaderDies(t *testing.T) {
	t.Parallel()
	files, hello, first, second := newRoutes(t), saying(t, "hello"), freeAddr(t), freeAddr(t)
	files.set(route{"first", first, to(hello)})
	r := &rig{t: t, config: filepath.Join(t.TempDir(), "dill.toml")}
	r.configure(fmt.Sprintf("file.path = %q\n", files.path))
	reader, writer, err := os.Pipe()
	must(t, err)
	cmd := exec.Command("dill", "-config", r.config)
	cmd.Stdout, cmd.Stderr = writer, writer
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
	})
	must(t, writer.Close())
	must(t, reader.Close())

	r.ended = make(chan struct{})
	r.answers(first, "hello")
	files.set(route{"second", second, to(hello)}) // much to log
	r.answers(second, "hello")
	must(t, cmd.Process.Signal(syscall.SIGTERM))
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// Somebody else has the addresses of Peek and the profiles: dill serves without
// them, keeps services off them, and answers there when they are free.
func TestOwnAddressesInUse(t *testing.T) {
	t.Parallel()
	files, hello, port := newRoutes(t), saying(t, "hello"), freeAddr(t)
	peek, profiles := freeAddr(t), freeAddr(t)
	var others []net.Listener
	for _, addr := range []netip.AddrPort{peek, profiles} {
		l, err := net.Listen("tcp", addr.String())
		must(t, err)
		t.Cleanup(func() { _ = l.Close() })
		others = append(others, l)
	}
	files.set(route{"web", port, to(hello)}, route{"thief", peek, to(hello)}, route{"bandit", profiles, to(hello)})
	r := &rig{t: t, config: filepath.Join(t.TempDir(), "dill.toml")}
	settings := fmt.Sprintf("file.path = %q\nlisteners.allowed.local = %q\n", files.path, peek.Addr())
	replace(t, r.config, settings+fmt.Sprintf("peek.listener = '%v'\ndebug.pprof = '%v'\n", peek, profiles))
	r.run()
	r.says(`cannot listen, trying again" for=peek.listener`)
	r.says(`cannot listen, trying again" for=debug.pprof`)
	r.answers(port, "hello")
	for _, l := range others {
		must(t, l.Close())
	}
	r.says(`msg=listening for=peek.listener addr=` + peek.String())
	r.says(`msg=listening for=debug.pprof addr=` + profiles.String())
	r.peek = peek
	r.peekSays(`(?s)file/bandit .*taken by dill itself.*file/thief .*taken by dill itself`)

	// A reload cannot move them: what is reserved is where they are.
	before := strings.Count(r.log.String(), "configuration read again")
	replace(t, r.config, settings)
	r.signal(syscall.SIGHUP)
	r.eventually("the configuration is read again", func() bool {
		return strings.Count(r.log.String(), "configuration read again") > before
	})
	files.set(route{"late", port, to(hello)}, route{"thief", peek, to(hello)}, route{"bandit", profiles, to(hello)})
	r.peekSays(`(?s)file/bandit .*taken by dill itself.*file/thief .*taken by dill itself`)
}

// An endpoint that serves a routing file is a source like any other.
func TestHTTPSourceAlone(t *testing.T) {
	t.Parallel()
	hello, port := saying(t, "hello"), freeAddr(t)
	var empty atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if empty.Load() {
			fmt.Fprint(w, `{"services": []}`)
			return
		}
		fmt.Fprintf(w, `{"services": [{"name": "web", "listener": "local:%d", "backends": ["%v"]}]}`, port.Port(), hello.Addr())
	}))
	t.Cleanup(server.Close)
	r := launch(t, fmt.Sprintf("routing.http.endpoint = %q\nhttp.poll_interval = '100ms'\n", server.URL))
	r.answers(port, "hello")
	empty.Store(true)
	r.closed(port)
}

// The first line tells where each source is asked, and no password.
func TestStartNamesItsSources(t *testing.T) {
	t.Parallel()
	r := launch(t, "consul.address = 'http://me:s3cret@127.0.0.1:1'\nfile.path = '/none.toml'\n")
	r.says(`msg="dill runs".* sources="\[file consul\]".* file=/none.toml consul=http://\*\*\*@127.0.0.1:1 `)
	if strings.Contains(r.log.String(), "s3cret") {
		t.Error("a password is logged")
	}
}
