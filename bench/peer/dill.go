package peer

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"dill/bench/proc"
)

// Dill is what all this is about.
type Dill struct {
	Path string // of the binary
	Ver  string // its version
	Tag  string // its name among other variants of it; "" = dill
	Env  []string

	// Announce, when set, makes service discovery tell dill to serve listen
	// from backends, and returns the settings by which dill finds it, and an
	// undo. Unset, a routing file does.
	Announce func(ctx context.Context, listen netip.AddrPort, backends []netip.AddrPort) (env []string, undo func(), err error)
}

func (d *Dill) Name() string    { return cmp.Or(d.Tag, "dill") }
func (d *Dill) Version() string { return d.Ver }

func (d *Dill) Config(at Site) string {
	if d.Announce == nil {
		return strings.Join(d.FileEnv(at), "\n") + "\n" + string(Routes(Service{"bench", at.Listen, at.Backends}))
	}
	return strings.Join(append([]string{"services and listeners from Consul"}, d.Env...), "\n")
}

// With returns a variant of d with another name and more settings.
func (d *Dill) With(tag string, env ...string) *Dill {
	v := *d
	v.Tag, v.Env = tag, append(slices.Clone(d.Env), env...)
	return &v
}

// Label is the listener label that the benchmarks' services use; dill is told
// no other, so that it serves nobody else's.
const Label = "bench"

// FileEnv are the settings for a routing file at the site.
func (d *Dill) FileEnv(at Site) []string {
	return append([]string{
		"DILL_FILE_PATH=" + filepath.Join(at.Dir, "routes.json"),
		"DILL_LISTENERS_ALLOWED=" + Label + "=127.0.0.1",
		"DILL_LOG_LEVEL=warn",
	}, d.Env...)
}

// Start starts dill with one listener.
func (d *Dill) Start(ctx context.Context, at Site) (*Running, error) {
	var env []string
	undo := func() {}
	if d.Announce == nil {
		env = d.FileEnv(at)
		if err := os.WriteFile(filepath.Join(at.Dir, "routes.json"), Routes(Service{"bench", at.Listen, at.Backends}), 0o644); err != nil {
			return nil, err
		}
	} else {
		var err error
		if env, undo, err = d.Announce(ctx, at.Listen, at.Backends); err != nil {
			return nil, err
		}
		env = append(env, d.Env...)
	}
	c, counters, err := d.Launch(at, env)
	if err != nil {
		undo()
		return nil, err
	}
	r, err := await(ctx, c, at.Listen)
	if err != nil {
		undo()
		return nil, err
	}
	r.Counters, r.Profile = counters, true
	stop := r.stop
	r.stop = func() { stop(); undo() }
	return r, nil
}

// Launch starts the process with env added to the environment, from which
// every other DILL_ variable is taken out.
func (d *Dill) Launch(at Site, env []string) (*proc.Child, func(context.Context) (map[string]float64, error), error) {
	cmd, err := at.command(d.Path)
	if err != nil {
		return nil, nil, err
	}
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "DILL_") }), env...)
	counters := newCounterReader()
	c, err := proc.Start("dill", cmd, counters.line)
	if err != nil {
		return nil, nil, err
	}
	return c, func(ctx context.Context) (map[string]float64, error) { return counters.ask(ctx, c) }, nil
}

// Service is one entry of a routing file.
type Service struct {
	Name     string
	Listen   netip.AddrPort
	Backends []netip.AddrPort
}

// Routes encodes a routing file.
func Routes(services ...Service) []byte {
	type entry struct {
		Name     string           `json:"name"`
		Listener string           `json:"listener"`
		Backends []netip.AddrPort `json:"backends"`
	}
	doc := struct {
		Services []entry `json:"services"`
	}{Services: []entry{}}
	for _, s := range services {
		doc.Services = append(doc.Services, entry{s.Name, fmt.Sprintf("%s:%d", Label, s.Listen.Port()), s.Backends})
	}
	b, err := json.Marshal(doc)
	if err != nil {
		panic("bench: BUG: routing file: " + err.Error())
	}
	return b
}

// counterReader collects the "name value" lines that dill writes to stderr when
// it gets SIGUSR1.
type counterReader struct {
	mu     sync.Mutex
	values map[string]float64
	last   time.Time // when a line came
}

func newCounterReader() *counterReader { return &counterReader{values: map[string]float64{}} }

func (r *counterReader) line(text string) {
	name, value, ok := strings.Cut(strings.TrimSpace(text), " ")
	if !ok || strings.ContainsAny(name, `=:"{`) {
		return // a log line
	}
	v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.values[name], r.last = v, time.Now()
}

// ask sends the signal and returns what came within a moment. A dill that does
// not know the signal has no counters.
func (r *counterReader) ask(ctx context.Context, c *proc.Child) (map[string]float64, error) {
	if !proc.Catches(c.PID(), syscall.SIGUSR1) {
		return nil, nil
	}
	asked := time.Now()
	if err := c.Signal(syscall.SIGUSR1); err != nil {
		return nil, err
	}
	// The lines come in one write; a pause of 20 ms after the last is their end.
	deadline, cancel := context.WithTimeoutCause(ctx, 2*time.Second, fmt.Errorf("no counters within 2 s of SIGUSR1"))
	defer cancel()
	var values map[string]float64
	err := c.Poll(deadline, 5*time.Millisecond, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		if !r.last.After(asked) || time.Since(r.last) < 20*time.Millisecond {
			return false
		}
		values = make(map[string]float64, len(r.values))
		maps.Copy(values, r.values)
		return true
	})
	return values, err
}
