package consul

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/consul/api"
)

// fake is a Consul as scripts need it, inside a synctest bubble: it answers
// blocking queries, over connections that are no sockets, and can be told to
// behave badly.
type fake struct {
	conns chan net.Conn

	mu       sync.Mutex
	down     bool               // refuses connections
	allows   int                // hangs up on more than this, 0 = on none
	open     map[*pipe]net.Conn // with the fake's end
	index    uint64
	services map[string][]*api.ServiceEntry
	changed  chan struct{} // closed and replaced at each change
	seen     []*http.Request
	dialed   []time.Time

	// answer, if set, may answer instead; it reports whether it did.
	answer func(w http.ResponseWriter, r *http.Request) bool
}

// scripted runs script in a bubble with a source that watches a fake.
func scripted(t *testing.T, cfg Config, prepare func(*fake), script func(t *testing.T, f *fake, o *observer), change ...func(*Source)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := &fake{
			conns: make(chan net.Conn), index: 10,
			services: make(map[string][]*api.ServiceEntry), changed: make(chan struct{}),
			open: make(map[*pipe]net.Conn),
		}
		server := &http.Server{Handler: f}
		ended := make(chan struct{})
		go func() { _ = server.Serve(f); close(ended) }()
		if prepare != nil {
			prepare(f)
		}
		cfg.Address = "http://consul.test:8500"
		// The observer's own cleanup runs outside the bubble's last moments,
		// so everything is ended here.
		ctx, cancel := context.WithCancel(t.Context())
		o := newObserver(t, cfg, append(change, func(s *Source) { s.dial = f.dial })...)
		done := make(chan struct{})
		go func() { _ = o.Run(ctx, o.sink); close(done) }()
		script(t, f, o)
		cancel()
		<-done
		server.Close()
		<-ended
		if t.Failed() {
			t.Logf("log of the source:\n%s", o.log)
		}
	})
}

// Accept, Close and Addr make the fake a net.Listener.
func (f *fake) Accept() (net.Conn, error) {
	c, ok := <-f.conns
	if !ok {
		return nil, http.ErrServerClosed
	}
	return c, nil
}

func (f *fake) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = true
	close(f.conns)
	return nil
}

func (f *fake) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8500} }

func (f *fake) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	f.mu.Lock()
	f.dialed = append(f.dialed, time.Now())
	down, full := f.down, f.allows > 0 && len(f.open) >= f.allows
	f.mu.Unlock()
	if down {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: f.Addr(), Err: errors.New("connect: connection refused")}
	}
	one, theirs := net.Pipe()
	ours := &pipe{one, f}
	if full {
		theirs.Close()
		return ours, nil
	}
	f.mu.Lock()
	f.open[ours] = theirs
	f.mu.Unlock()
	select {
	case f.conns <- theirs:
		return ours, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// pipe is a connection to the fake. It fails as a socket does.
type pipe struct {
	net.Conn
	f *fake
}

func (p *pipe) Write(b []byte) (int, error) {
	n, err := p.Conn.Write(b)
	if errors.Is(err, io.ErrClosedPipe) {
		err = &net.OpError{Op: "write", Net: "tcp", Err: os.NewSyscallError("write", syscall.EPIPE)}
	}
	return n, err
}

func (p *pipe) Close() error {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	delete(p.f.open, p)
	return p.Conn.Close()
}

// kill ends the process that the fake is: every connection breaks, and no new
// one is taken.
func (f *fake) kill() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = true
	for _, theirs := range f.open {
		theirs.Close()
	}
}

// set makes a service's instances these and counts the index up. Without
// instances the service is gone from the catalog.
func (f *fake) set(name string, entries ...*api.ServiceEntry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.services[name] = entries
	if len(entries) == 0 {
		delete(f.services, name)
	}
	f.index++
	f.wake()
}

// do changes the fake under its lock and wakes the queries that wait.
func (f *fake) do(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	f.wake()
}

func (f *fake) wake() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// requests returns how many came for a path that contains text.
func (f *fake) requests(text string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.seen {
		if strings.Contains(r.URL.Path, text) {
			n++
		}
	}
	return n
}

// history returns the requests and the times of dialing so far.
func (f *fake) history() ([]*http.Request, []time.Time) {
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.seen), slices.Clone(f.dialed)
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.seen = append(f.seen, r)
	answer := f.answer
	f.mu.Unlock()
	if answer != nil && answer(w, r) {
		return
	}
	index, _ := strconv.ParseUint(r.FormValue("index"), 10, 64)
	if wait, err := time.ParseDuration(r.FormValue("wait")); err == nil && index > 0 {
		f.block(r.Context(), index, wait)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	w.Header().Set("X-Consul-Index", strconv.FormatUint(f.index, 10))
	_ = json.NewEncoder(w).Encode(f.body(r.URL.Path))
}

// block waits until the index is another one.
func (f *fake) block(ctx context.Context, index uint64, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		f.mu.Lock()
		same, changed := f.index == index, f.changed
		f.mu.Unlock()
		if !same {
			return
		}
		select {
		case <-changed:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// body is the content of an answer; f.mu is held.
func (f *fake) body(path string) any {
	switch name, one := strings.CutPrefix(path, "/v1/health/service/"); {
	case one && f.services[name] != nil:
		return f.services[name]
	case one:
		return []any{}
	case path == "/v1/catalog/services":
		all := map[string][]string{"consul": {}}
		for name, entries := range f.services {
			for _, e := range entries {
				all[name] = append(all[name], e.Service.Tags...)
			}
		}
		return all
	case path == "/v1/health/state/any":
		checks := []*api.HealthCheck{}
		for _, entries := range f.services {
			for _, e := range entries {
				checks = append(checks, e.Checks...)
			}
		}
		return checks
	}
	return []any{}
}

// entry is an instance on node n1.
func entry(service, id string, port int) *api.ServiceEntry {
	return &api.ServiceEntry{
		Node:    &api.Node{Node: "n1", Address: "10.0.0.1"},
		Service: &api.AgentService{ID: id, Service: service, Port: port, Tags: []string{"dill", "dill.listener=local:5555"}},
		Checks: api.HealthChecks{{
			Node: "n1", CheckID: "check:" + id, ServiceID: id, ServiceName: service, Status: api.HealthPassing,
		}},
	}
}

// respond writes an answer as Consul would.
func respond(w http.ResponseWriter, index uint64, body string) bool {
	w.Header().Set("X-Consul-Index", strconv.FormatUint(index, 10))
	_, _ = w.Write([]byte(body))
	return true
}
