package consul

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"dill/controlplane/source"
	"dill/dataplane/dptest"
)

func TestMain(m *testing.M) {
	dptest.Isolate()
	goleak.VerifyTestMain(m)
}

// patience is how long an expected snapshot may take.
const patience = 20 * time.Second

// observer runs a source and keeps what it says.
type observer struct {
	*Source
	log *lines

	mu      sync.Mutex
	all     []source.Snapshot
	changed chan struct{} // closed and replaced at each snapshot
}

// newObserver makes an observer of a source that does not run yet.
func newObserver(t *testing.T, cfg Config, change ...func(*Source)) *observer {
	t.Helper()
	o := &observer{log: &lines{}, changed: make(chan struct{})}
	src, err := New(cfg, slog.New(slog.NewTextHandler(o.log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		f(src)
	}
	o.Source = src
	return o
}

// observe runs a source until the test ends.
func observe(t *testing.T, cfg Config) *observer {
	t.Helper()
	o := newObserver(t, cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = o.Run(ctx, o.sink)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		if t.Failed() {
			t.Logf("log of the source:\n%s", o.log)
		}
	})
	return o
}

func (o *observer) sink(s source.Snapshot) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all = append(o.all, s)
	close(o.changed)
	o.changed = make(chan struct{})
}

// last returns the newest snapshot, and what is closed when there is a newer.
func (o *observer) last() (source.Snapshot, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.all) == 0 {
		return source.Snapshot{}, o.changed
	}
	return o.all[len(o.all)-1], o.changed
}

// since returns the snapshots after the first n.
func (o *observer) since(n int) []source.Snapshot {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.all[n:])
}

func (o *observer) count() int { return len(o.since(0)) }

// await returns the first snapshot from now on that cond is true of, the
// newest included.
func (o *observer) await(t *testing.T, what string, cond func(source.Snapshot) bool) source.Snapshot {
	t.Helper()
	return o.within(t, patience, what, cond)
}

func (o *observer) within(t *testing.T, limit time.Duration, what string, cond func(source.Snapshot) bool) source.Snapshot {
	t.Helper()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		s, changed := o.last()
		if cond(s) {
			return s
		}
		select {
		case <-changed:
		case <-timer.C:
			t.Fatalf("not within %v: %s; now: %s", limit, what, show(s))
		}
	}
}

func current(s source.Snapshot) bool { return s.Synced && s.Err == nil }

// has is the condition that the instances of a service are these, each
// written as "id health".
func has(name string, want ...string) func(source.Snapshot) bool {
	return func(s source.Snapshot) bool { return slices.Equal(instancesOf(s, name), want) }
}

func instancesOf(s source.Snapshot, name string) []string {
	var all []string
	for _, svc := range s.Services {
		if svc.Name == name {
			for _, inst := range svc.Instances {
				all = append(all, inst.ID+" "+inst.Health.String())
			}
		}
	}
	return all
}

// sized is the condition that the source is current with so many services.
func sized(n int) func(source.Snapshot) bool {
	return func(s source.Snapshot) bool { return current(s) && len(s.Services) == n }
}

func failed(text string) func(source.Snapshot) bool {
	return func(s source.Snapshot) bool { return s.Err != nil && strings.Contains(s.Err.Error(), text) }
}

func show(s source.Snapshot) string {
	var names []string
	for _, svc := range s.Services {
		names = append(names, fmt.Sprint(svc.Name, instancesOf(s, svc.Name)))
	}
	if len(names) > 10 {
		names = append(names[:10], "…")
	}
	return fmt.Sprintf("%d services %v synced=%v suspect=%v err=%v", len(s.Services), names, s.Synced, s.Suspect, s.Err)
}

// lines is a log that can be read while it is written.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// matching returns the lines that contain text.
func (l *lines) matching(text string) []string {
	var out []string
	for line := range strings.Lines(l.String()) {
		if strings.Contains(line, text) {
			out = append(out, line)
		}
	}
	return out
}
