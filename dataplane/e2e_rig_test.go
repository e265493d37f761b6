package dataplane_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dill/dataplane"
	"dill/dataplane/dptest"
	"dill/dataplane/route"
)

// The tests of these files see the data plane from outside: two peers and the
// proxy between them. Top-level tests run one after the other, because
// dataplane.Stats counts for the whole process; subtests run in parallel where
// they share a rig.

// setup says what a rig consists of; the zero value is a default engine with
// one backend that hands out what it accepts.
type setup struct {
	cfg      dataplane.Config
	backends int                          // 0 means 1; -1 means none
	serve    func(int) func(*dptest.Peer) // handler of each backend; nil = handed out
	sockets  dptest.Socket                // of the backends
	dead     []netip.AddrPort             // further backends that nobody started
	front    netip.AddrPort               // the listener's address; zero = a free one
	listener func(*route.Listener)        // changes the listener before it is published
	backend  func(*route.Backend)         // changes each backend before it is published
}

// rig is a running engine, one listener and its backends.
type rig struct {
	engine   *dataplane.Engine
	front    netip.AddrPort
	backends []*dptest.Backend
	setup    setup
	log      *logBuffer

	publishing sync.Mutex
	table      *route.Table

	opening sync.Mutex
}

// start runs an engine that serves s, and waits until it accepts. The cleanup
// ends all sessions, checks that the engine forgot them, and shuts it down.
func start(t testing.TB, s setup) *rig {
	t.Helper()
	r := &rig{setup: s, front: s.front, log: new(logBuffer)}
	for i := range max(s.backends, 1+min(s.backends, 0)) {
		var handle func(*dptest.Peer)
		if s.serve != nil {
			handle = s.serve(i)
		}
		r.backends = append(r.backends, dptest.ListenOn(t, netip.AddrPort{}, s.sockets, handle))
	}
	engine, err := dataplane.New(s.cfg, slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	r.engine = engine
	t.Cleanup(func() { r.stop(t) })
	if r.front.IsValid() {
		r.publish(t, r.listener())
	} else {
		r.openAnywhere(t)
	}
	return r
}

// openAnywhere publishes the rig's listener at a free address, at another one
// if it is taken just then.
func (r *rig) openAnywhere(t testing.TB) {
	t.Helper()
	for {
		r.front = dptest.FreeAddr(t)
		r.swap(r.listener())
		var taken bool
		dptest.Eventually(t, "the listener accepts or its address is taken", func() bool {
			err, known := r.engine.Listening()[r.front]
			taken = errors.Is(err, syscall.EADDRINUSE)
			return known && err == nil || taken
		})
		if !taken {
			return
		}
	}
}

func (r *rig) stop(t testing.TB) {
	for _, b := range r.backends {
		b.StopAll()
	}
	if !dptest.Poll(dptest.Patience, func() bool { return dataplane.Stats().Sessions == 0 }) {
		t.Errorf("%d sessions left although all peers are gone", dataplane.Stats().Sessions)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := r.engine.Shutdown(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("shutdown: %v", err)
	}
	if t.Failed() {
		t.Logf("engine's log:\n%s", r.log)
	}
}

// listener is the rig's own listener as setup describes it, made anew for
// every table.
func (r *rig) listener() *route.Listener {
	ln := &route.Listener{Addr: r.front, Owner: "test/rig"}
	for _, b := range r.backends {
		ln.Backends = append(ln.Backends, &route.Backend{Addr: b.Addr()})
	}
	for _, addr := range r.setup.dead {
		ln.Backends = append(ln.Backends, &route.Backend{Addr: addr})
	}
	for _, b := range ln.Backends {
		b.Weight = 1
		b.Instance = b.Addr.String()
		if r.setup.backend != nil {
			r.setup.backend(b)
		}
	}
	if r.setup.listener != nil {
		r.setup.listener(ln)
	}
	return ln
}

// serving is another listener at addr with the backends given.
func serving(addr netip.AddrPort, backends ...netip.AddrPort) *route.Listener {
	ln := &route.Listener{Addr: addr, Owner: "test/other"}
	for _, b := range backends {
		ln.Backends = append(ln.Backends, &route.Backend{Addr: b, Instance: b.String(), Weight: 1})
	}
	return ln
}

// publish replaces the table by one of these listeners and waits until each of
// them accepts.
func (r *rig) publish(t testing.TB, listeners ...*route.Listener) {
	t.Helper()
	r.swap(listeners...)
	dptest.Eventually(t, "all listeners accept", func() bool {
		listening := r.engine.Listening()
		return !slices.ContainsFunc(listeners, func(ln *route.Listener) bool {
			err, known := listening[ln.Addr]
			return !known || err != nil
		})
	})
}

// swap publishes without waiting.
func (r *rig) swap(listeners ...*route.Listener) {
	r.publishing.Lock()
	defer r.publishing.Unlock()
	r.table = newTable(r.table, listeners...)
	r.engine.Publish(r.table)
}

// newTable is the one place that knows how tables are made.
func newTable(previous *route.Table, listeners ...*route.Listener) *route.Table {
	generation := uint64(1)
	if previous != nil {
		generation = previous.Generation + 1
	}
	return route.NewTable(generation, listeners, nil, previous)
}

// open makes one session and returns both its ends, paired.
func (r *rig) open(t testing.TB) (client, server *dptest.Peer) {
	t.Helper()
	return r.openFrom(t, dptest.Socket{})
}

// openFrom is open with options for the client's socket. It is for rigs with
// one backend without a handler.
func (r *rig) openFrom(t testing.TB, s dptest.Socket) (client, server *dptest.Peer) {
	t.Helper()
	client, server, err := r.tryOpen(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client, server
}

// tryOpen is open outside of the test's goroutine; the caller closes both ends.
func (r *rig) tryOpen(s dptest.Socket) (client, server *dptest.Peer, err error) {
	r.opening.Lock() // or two clients could get each other's server
	defer r.opening.Unlock()
	before := dataplane.Stats().Get("connected")
	if client, err = dptest.Connect(r.front, s); err != nil {
		return nil, nil, err
	}
	select {
	case server = <-r.backends[0].Queue():
	case <-time.After(dptest.Patience):
		client.Close()
		return nil, nil, errors.New("no connection reached the backend")
	}
	// The backend knows of the connection before dill does; a client that
	// resets in between would be one that left during the connect.
	if !dptest.Poll(dptest.Patience, func() bool { return dataplane.Stats().Get("connected") > before }) {
		client.Close()
		return nil, nil, errors.New("dill does not count the connection")
	}
	dptest.Pair(client, server)
	return client, server, nil
}

// play opens a session and plays a script on either side.
func (r *rig) play(t testing.TB, clientOps, serverOps []dptest.Op) {
	t.Helper()
	client, server := r.open(t)
	dptest.Play(t,
		dptest.Role{Name: "client", Peer: client, Ops: clientOps},
		dptest.Role{Name: "server", Peer: server, Ops: serverOps})
}

// ask is one connection to the rig's listener whose backends say who they are.
func (r *rig) ask(t testing.TB) string {
	t.Helper()
	name, err := dptest.Ask(r.front)
	if err != nil {
		t.Fatalf("ask %v: %v", r.front, err)
	}
	return name
}

// rejected checks that a client is reset at once.
func (r *rig) rejected(t testing.TB) {
	t.Helper()
	if err := dptest.Rejected(r.front, dptest.Socket{}); err != nil {
		t.Errorf("%v: %v", r.front, err)
	}
}

// stall makes each loop stand still for d at its next session event.
func (r *rig) stall(t testing.TB, d time.Duration) {
	t.Helper()
	r.inject(t, func() { r.engine.Stall(d) })
}

// inject waits until a hook that post sets is in force on every loop.
func (r *rig) inject(t testing.TB, post func()) {
	t.Helper()
	before := dataplane.Stats().Get("tasks")
	loops := uint64(r.setup.cfg.Loops) // the tests that inject name a number
	post()
	dptest.Eventually(t, "the hook is set", func() bool { return dataplane.Stats().Get("tasks") >= before+loops })
}

// names gives each backend a handler that says its letter: A, B, …
func names(i int) func(*dptest.Peer) { return dptest.Say(string(rune('A' + i))) }

// echoes gives each backend a handler that sends back what it gets.
func echoes(int) func(*dptest.Peer) { return dptest.Echo }

// holds gives each backend a handler that only listens.
func holds(int) func(*dptest.Peer) { return dptest.Hold }

// since returns a function that tells how far a counter has moved from now.
func since(counter string) func() uint64 {
	before := dataplane.Stats().Get(counter)
	return func() uint64 { return dataplane.Stats().Get(counter) - before }
}

// counts waits until a counter has moved by want, which may be a moment after
// the peers saw why, and checks that it goes no further.
func counts(t testing.TB, counter string, moved func() uint64, want uint64) {
	t.Helper()
	dptest.Poll(dptest.Patience, func() bool { return moved() >= want })
	if got := moved(); got != want {
		t.Errorf("%s counted %d, want %d", counter, got, want)
	}
}

// modes are the ways to move bytes, which every test of the relay goes through.
var modes = map[string]dataplane.SpliceMode{
	"copy":   dataplane.SpliceNever,
	"splice": dataplane.SpliceAlways,
	"auto":   dataplane.SpliceAuto,
}

// eachMode runs f with a rig for each mode, and for the ways in which the send
// buffers of spliced streams may be bounded.
func eachMode(t *testing.T, s setup, f func(*testing.T, *rig)) {
	for name, mode := range modes {
		t.Run(name, func(t *testing.T) {
			s := s
			s.cfg.Splice = mode
			f(t, start(t, s))
		})
	}
	s.cfg.Splice = dataplane.SpliceAlways
	t.Run("splice, windows change", func(t *testing.T) {
		r := start(t, s)
		r.changeWindows(t)
		f(t, r)
	})
	s.cfg.NearBuffer = -1
	t.Run("splice, windows of the system", func(t *testing.T) { f(t, start(t, s)) })
}

// changeWindows takes bounds off send buffers and puts them on again, in the
// midst of streams, until the test ends.
func (r *rig) changeWindows(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	var changing sync.WaitGroup
	changing.Go(func() {
		for tick := time.Tick(10 * time.Millisecond); ctx.Err() == nil; <-tick {
			r.engine.FreeWindows()
		}
	})
	t.Cleanup(func() { cancel(); changing.Wait() })
}

// took checks that an interval of time lies between lo and hi. It may fall
// short of lo by what the loops' clock and the test's differ.
func took(t testing.TB, what string, d, lo, hi time.Duration) {
	t.Helper()
	if d < lo-10*time.Millisecond || d > hi {
		t.Errorf("%s took %v, want %v to %v", what, d, lo, hi)
	}
}

// logBuffer keeps what the engine logs, for the tests that look at it and for
// those that fail.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func (b *logBuffer) contains(text string) bool { return strings.Contains(b.String(), text) }
