package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"dill/controlplane/config"
	"dill/controlplane/publish"
	"dill/controlplane/regular"
	"dill/controlplane/source"
	"dill/controlplane/source/consul"
	"dill/controlplane/source/file"
	"dill/controlplane/source/http"
	"dill/controlplane/source/nomad"
)

// wanted is a source that shall run.
type wanted struct {
	source source.Source
	spec   any    // comparable: all that it was built from
	scope  string // see publish.Origin
}

// newSources builds the sources that the configuration asks for, by name. They
// do nothing before they are run.
func newSources(c *config.Config, openFiles uint64, log *slog.Logger) (map[string]wanted, error) {
	sources := make(map[string]wanted)
	for _, name := range c.Sources() {
		w, err := newSource(name, c, openFiles, log)
		if err != nil {
			return nil, err
		}
		sources[name] = w
	}
	return sources, nil
}

func newSource(name string, c *config.Config, openFiles uint64, log *slog.Logger) (wanted, error) {
	switch name {
	case "file":
		s, err := file.New(c.File.Path, c.File.Watch, log)
		return wanted{source: s, spec: c.File}, err
	case "consul":
		k := c.Consul
		k.Settle, k.MaxStale, k.AllowWarning = 0, 0, false // the publisher's
		s, err := consul.New(consul.Config{
			Address:        k.Address,
			Token:          string(k.Token),
			TokenFile:      k.TokenFile,
			Datacenter:     k.Datacenter,
			Namespace:      k.Namespace,
			Partition:      k.Partition,
			Wait:           k.Wait,
			Consistency:    consul.Consistency(k.ConsistencyMode),
			MaxConnections: k.MaxConnections,
			OpenFiles:      consulFiles(c, openFiles),
			TLS:            consul.TLS(k.TLS),
		}, log)
		scope := strings.Join([]string{k.Datacenter, k.Namespace, k.Partition}, "/")
		return wanted{s, encrypted{k, pemFiles(k.TLS)}, scope}, err
	case "nomad":
		k := c.Nomad
		s, err := nomad.New(nomad.Options{
			Address:   k.Address,
			Token:     string(k.Token),
			Namespace: k.Namespace,
			Wait:      k.Wait,
			Stale:     k.Stale,
			CA:        k.TLS.CA,
			Cert:      k.TLS.Cert,
			Key:       k.TLS.Key,
			Insecure:  k.TLS.Insecure,
		}, log)
		return wanted{s, encrypted{k, pemFiles(k.TLS)}, cmp.Or(k.Namespace, "default")}, err
	case "http":
		s, err := http.New(c.HTTP.Endpoint, c.HTTP.PollInterval, c.HTTP.PollTimeout, log)
		return wanted{source: s, spec: c.HTTP}, err
	}
	panic("dill: BUG: no source is called " + name)
}

// encrypted is the spec of a source that may use TLS.
type encrypted struct{ settings, pemFiles any }

// pemFiles stands for the content of the files that a TLS configuration names,
// so that a renewed certificate under the old name is a change.
func pemFiles(t config.TLS) string {
	h := sha256.New()
	for _, path := range []string{t.CA, t.Cert, t.Key} {
		if b, err := regular.Read(path, regular.PEMLimit); err == nil {
			h.Write(b)
		}
		_, _ = io.WriteString(h, "\x00")
	}
	return string(h.Sum(nil))
}

// runner runs the route sources. One goroutine uses it.
type runner struct {
	ctx     context.Context // its end stops all of them
	sink    source.Sink
	known   func(name, scope string) []source.Service // what a source begins with, nil = nothing
	log     *slog.Logger
	running map[string]*running
	stopped map[string]*running // the last one of its name; it may still be going
}

// running is a source that was told to run.
type running struct {
	wanted
	cancel context.CancelFunc
	done   chan struct{} // closed when Run has returned

	mu    sync.Mutex
	muted bool // what it says does not count any more
}

// tell hands s to sink unless the source was stopped.
func (r *running) tell(s source.Snapshot, sink source.Sink) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.muted {
		sink(s)
	}
}

// stop tells the source to end. It says nothing any more when stop returns,
// even if it takes its time to go.
func (r *running) stop() {
	r.cancel()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.muted = true
}

// await returns when the source is gone, limit has passed or ctx has ended. A nil
// source is gone.
func (r *running) await(ctx context.Context, limit time.Duration) {
	if r == nil {
		return
	}
	select {
	case <-r.done:
	case <-time.After(limit):
	case <-ctx.Done():
	}
}

func newRunner(ctx context.Context, sink source.Sink, log *slog.Logger) *runner {
	return &runner{ctx: ctx, sink: sink, log: log, running: make(map[string]*running), stopped: make(map[string]*running)}
}

// origins returns what the publisher is to know of the sources in next. What
// goes on running keeps its own.
func (s *runner) origins(next map[string]wanted) map[string]publish.Origin {
	m := make(map[string]publish.Origin, len(next))
	for name, w := range next {
		if old := s.running[name]; old != nil && old.spec == w.spec {
			w = old.wanted
		}
		confirmer, _ := w.source.(publish.Confirmer)
		m[name] = publish.Origin{Confirmer: confirmer, Scope: w.scope}
	}
	return m
}

// stop ends every source that is not in next or has another spec there: none of
// them tells the sink anything afterwards. It waits for none of them.
func (s *runner) stop(next map[string]wanted) {
	for name, r := range s.running {
		if w, ok := next[name]; !ok || w.spec != r.spec {
			r.stop()
			delete(s.running, name)
			s.stopped[name] = r
		}
	}
}

// handover is how long a source waits for the one it replaces, whose connections
// the server still counts. One that hangs is not waited for.
const handover = 5 * time.Second

// run starts every source of next that does not run. It begins with what is
// known of its scope.
func (s *runner) run(next map[string]wanted) {
	for name, w := range next {
		if s.running[name] != nil {
			continue
		}
		if heir, ok := w.source.(source.Heir); ok && s.known != nil {
			heir.Inherit(s.known(name, w.scope))
		}
		ctx, cancel := context.WithCancel(s.ctx)
		r := &running{wanted: w, cancel: cancel, done: make(chan struct{})}
		before := s.stopped[name]
		s.running[name] = r
		delete(s.stopped, name)
		go func() {
			defer close(r.done)
			before.await(ctx, handover)
			sink := func(snap source.Snapshot) { r.tell(snap, s.sink) }
			if err := r.source.Run(ctx, sink); err != nil && ctx.Err() == nil {
				s.log.Error("source ended", keySource, name, keyErr, err)
			}
		}()
	}
}
