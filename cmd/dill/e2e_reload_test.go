package main

import (
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"dill/controlplane/consultest"
	"dill/dataplane/dptest"
)

// SIGHUP applies labels, port range, log level, timeouts and sources without
// touching a connection.
func TestReload(t *testing.T) {
	t.Parallel()
	files, sink, hello := newRoutes(t), listen(t), saying(t, "hello")
	low, stays := freeAddr(t), freeAddr(t)
	if low.Port() > stays.Port() {
		low, stays = stays, low
	}
	files.set(route{"stays", stays, to(sink)}, route{"low", low, to(hello)})
	source := fmt.Sprintf("file.path = %q\n", files.path)
	r := launch(t, source)
	r.shows(stays, sink.Addr())
	r.answers(low, "hello")
	client := dptest.Dial(t, stays)
	server := sink.Accept(t)
	dptest.Pair(client, server)

	reloads := func() int { return strings.Count(r.log.String(), "configuration read again") }
	reload := func(settings string) {
		t.Helper()
		before := reloads()
		r.configure(settings)
		r.signal(syscall.SIGHUP)
		r.eventually("the configuration is read again", func() bool { return reloads() > before })
	}

	// The port range.
	above := source + fmt.Sprintf("listeners.port_min = %d\n", low.Port()+1)
	reload(above)
	r.closed(low)
	reload(source)
	r.answers(low, "hello")

	// The log level. At error a reload is not logged; that it took place shows
	// in the port that closes with it.
	reload(source + "log.level = 'debug'\n")
	before := reloads()
	r.configure(above + "log.level = 'error'\n")
	r.signal(syscall.SIGHUP)
	r.closed(low)

	// What needs a restart is named.
	reload(source + "dataplane.loops = 7\nstate.path = '/tmp/x'\n")
	r.says(`setting=log.level old=error new=info`)
	r.says(`settings take effect at the next start" settings="\[dataplane.loops state.path\]"`)
	if n := reloads() - before; n != 1 {
		t.Errorf("%d of the two reloads were logged, want the second alone", n)
	}
	r.answers(low, "hello")

	// Another source in place of the first.
	others := newRoutes(t)
	others.set(route{"stays", stays, to(sink)})
	reload(fmt.Sprintf("file.path = %q\n", others.path))
	r.closed(low)

	// A mistake changes nothing, and is told.
	for _, broken := range []struct{ settings, told string }{
		{"peek.colour = 'blue'\n", "unknown key; peek has listener"},
		{"listeners.port_min = 'low'\n", "want a whole number from 1 to 65535"},
		{"= nonsense\n", "want valid TOML"},
		{"file.path = 'x.ini'\n", "want a name that ends in"},
	} {
		r.configure(broken.settings)
		r.signal(syscall.SIGHUP)
		r.says("configuration not accepted, the old one stays.*" + broken.told)
	}
	r.shows(stays, sink.Addr())

	dptest.Play(t,
		dptest.Role{Peer: client, Ops: []dptest.Op{dptest.Write(1 << 20), dptest.HalfClose(), dptest.ReadToEOF(1 << 20)}},
		dptest.Role{Peer: server, Ops: []dptest.Op{dptest.ReadToEOF(1 << 20), dptest.Write(1 << 20), dptest.Close()}},
	)
}

// A source whose settings change is replaced without a port noticing; one that
// is no longer configured takes its ports with it.
func TestReloadReplacesASource(t *testing.T) {
	t.Parallel()
	agent := consultest.New(t, consultest.Options{})
	consul := fmt.Sprintf("consul.address = %q\n", agent.Addr())
	r := launch(t, consul)
	sink, hello := listen(t), saying(t, "hello")
	port, late, filed := freeAddr(t), freeAddr(t), freeAddr(t)
	register(t, agent, "web", "web", sink.Addr(), port)
	r.shows(port, sink.Addr())
	client := dptest.Dial(t, port)
	server := sink.Accept(t)
	dptest.Pair(client, server)

	r.configure(consul + "consul.wait = '7s'\nconsul.settle = '1s'\n")
	r.signal(syscall.SIGHUP)
	r.says(`setting=consul.wait old=40s new=7s`)
	register(t, agent, "late", "late", hello.Addr(), late)
	r.answers(late, "hello")
	if strings.Contains(r.log.String(), `msg="port closed"`) {
		t.Error("a port was closed")
	}

	files := newRoutes(t)
	files.set(route{"filed", filed, to(hello)})
	r.configure(fmt.Sprintf("file.path = %q\n", files.path))
	r.signal(syscall.SIGHUP)
	r.answers(filed, "hello")
	r.closed(late)
	dptest.Play(t, // drained, not cut
		dptest.Role{Peer: client, Ops: []dptest.Op{dptest.Write(1 << 20), dptest.HalfClose(), dptest.ReadToEOF(1 << 20)}},
		dptest.Role{Peer: server, Ops: []dptest.Op{dptest.ReadToEOF(1 << 20), dptest.Write(1 << 20), dptest.Close()}},
	)
}

func TestReloadsUnderLoad(t *testing.T) {
	t.Parallel()
	files, port := newRoutes(t), freeAddr(t)
	files.set(route{"echo", port, to(serve(t, dptest.Echo))})
	source := fmt.Sprintf("file.path = %q\n", files.path)
	r := launch(t, source)
	r.eventually("the port is open", func() bool { return strings.Contains(r.table(), "──➤") })
	load := startLoad([]netip.AddrPort{port})
	defer load.stop()
	for i := range 20 {
		r.configure(source + fmt.Sprintf("listeners.allowed.extra = '10.0.0.%d'\ndataplane.connect_timeout = '%ds'\n", 1+i, 1+i))
		r.signal(syscall.SIGHUP)
		r.eventually("the configuration is read again", func() bool {
			return strings.Count(r.log.String(), "configuration read again") > i
		})
	}
	load.grow(t)
	if err := load.stop(); err != nil {
		t.Errorf("a connection suffered: %v", err)
	}
	if strings.Contains(r.log.String(), `msg="port closed"`) {
		t.Error("a port was closed")
	}
}
