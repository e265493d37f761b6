package main

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"dill/dataplane/dptest"
)

// SIGHUP applies labels, port range, log level, timeouts and sources without
// touching a connection.
func TestReload(t *testing.T) {
	t.Parallel()
	files, sink, hello := newRoutes(t), dptest.Listen(t), saying(t, "hello")
	low, stays := dptest.FreeAddr(t), dptest.FreeAddr(t)
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

	reload := func(settings string) {
		t.Helper()
		read := strings.Count(r.log.String(), "configuration read again")
		r.configure(settings)
		r.signal(syscall.SIGHUP)
		r.eventually("the configuration is read again", func() bool {
			return strings.Count(r.log.String(), "configuration read again") > read
		})
	}

	// The port range.
	reload(source + fmt.Sprintf("listeners.port_min = %d\n", low.Port()+1))
	r.closed(low)
	reload(source)
	r.answers(low, "hello")

	// The log level.
	reload(source + "log.level = 'debug'\n")
	r.configure(source + "log.level = 'error'\n")
	r.signal(syscall.SIGHUP)
	r.signal(syscall.SIGUSR1) // comes after it, and is seen at any level
	r.eventually("counters are printed", func() bool { return strings.Contains(r.out.String(), "gc_cycles") })

	// What needs a restart is named.
	r.configure(source + "dataplane.loops = 7\nstate.path = '/tmp/x'\n")
	r.signal(syscall.SIGHUP)
	r.says(`setting=log.level old="\\"error\\"" new="\\"info\\""`)
	r.says(`settings take effect at the next start" settings="\[dataplane.loops state.path\]"`)

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
