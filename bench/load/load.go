// Package load is the client side of the benchmarks: it drives one scenario
// against an address for a while and says how much got through and how long it
// took. Every answer and every stream is checked (package wire); the first that
// is wrong, or any error of a connection, ends the run with that error.
//
// One goroutine drives all connections, and nothing is allocated while it
// measures. It is run as a process of its own.
package load

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"dill/bench/proc"
)

// Kind is what a run does.
type Kind string

const (
	Bulk     Kind = "bulk"     // Conns streams in one direction
	Requests Kind = "requests" // Conns connections, each sends the next request when it has its answer
	Open     Kind = "open"     // requests at Rate, whether or not answers come, over Conns connections
	Connects Kind = "connects" // Conns at a time: connect, one request, its answer, close
	Idle     Kind = "idle"     // connections that each moved Moved bytes and then hold still
)

// Spec is what to run. It travels to the load process as JSON.
type Spec struct {
	Kind     Kind
	Targets  []netip.AddrPort // connections take turns
	Conns    int
	Size     int           // bytes of a message
	Download bool          // Bulk: to the client, instead of from it
	Rate     float64       // Open: requests a second
	Think    time.Duration // Requests: from an answer to the next request of the connection
	Warmup   time.Duration
	Duration time.Duration
	Patience time.Duration // how long nothing may move before the run fails; 0 = 10 s

	Stages []int         // Idle: how many connections to hold when memory is read
	Moved  int           // Idle: bytes, half of them in each direction
	Settle time.Duration // Idle: left alone before memory is read, so that a proxy that cleans up behind a busy connection has done so

	// Watch names groups of processes whose processor time is taken over
	// exactly the measured window. Idle reads the memory and descriptors of
	// the group "proxy".
	Watch map[string][]int
}

// Result is what came of it. It travels back as JSON.
type Result struct {
	Elapsed time.Duration            // of the measured window
	Ops     uint64                   // requests answered, connections done in the window
	Bytes   uint64                   // moved in the window, as seen by the client
	AllOps  uint64                   // with the warm-up
	CPU     map[string]time.Duration // of each watched group, and of "client"
	Latency string                   // histogram in nanoseconds, see Histogram; "" if there is none
	Stages  []Stage                  // Idle
}

// Stage is what a number of idle connections costs the proxy.
type Stage struct {
	Conns int
	RSS   int64 // bytes
	Files int   // descriptors
}

const (
	defaultPatience = 10 * time.Second

	latencyMost   = int64(time.Minute)
	latencyDigits = 3
)

// NewHistogram returns an empty histogram of nanoseconds, exact to three digits.
func NewHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, latencyMost, latencyDigits)
}

// Histogram decodes r.Latency; nil when there is none.
func (r *Result) Histogram() (*hdrhistogram.Histogram, error) {
	if r.Latency == "" {
		return nil, nil
	}
	return hdrhistogram.Decode([]byte(r.Latency))
}

// Run does what spec says. Ending ctx ends it early with ctx's error.
func Run(ctx context.Context, spec Spec) (*Result, error) {
	if len(spec.Targets) == 0 || spec.Conns < 1 && spec.Kind != Idle {
		return nil, fmt.Errorf("load %s: no target, or no connection", spec.Kind)
	}
	spec.Patience = cmp.Or(spec.Patience, defaultPatience)
	switch spec.Kind {
	case Bulk:
		return runBulk(ctx, spec)
	case Requests:
		return runRequests(ctx, spec)
	case Open:
		return runOpen(ctx, spec)
	case Connects:
		return runConnects(ctx, spec)
	case Idle:
		return runIdle(ctx, spec)
	}
	return nil, fmt.Errorf("load: unknown kind %q", spec.Kind)
}

// window is the part of a run that is measured: it opens after the warm-up and
// closes after the duration.
type window struct {
	spec   Spec
	opens  time.Time
	closes time.Time // set when it has opened
	open   bool
	began  time.Time
	cpu    map[string]time.Duration
	hist   *hdrhistogram.Histogram
	ops    uint64 // also before it is open
	bytes  uint64
	base   struct{ ops, bytes uint64 } // when it opened
	result *Result
	err    error
}

func newWindow(spec Spec) *window {
	return &window{spec: spec, opens: time.Now().Add(spec.Warmup), hist: NewHistogram()}
}

// tick opens and closes the window when it is time, and reports whether the
// run goes on. The measured window begins and ends when tick is called, not
// when it should have been.
func (w *window) tick(now time.Time) bool {
	switch {
	case w.err != nil:
		return false
	case !w.open && !now.Before(w.opens):
		w.open, w.began = true, now
		w.closes = now.Add(w.spec.Duration)
		w.base.ops, w.base.bytes = w.ops, w.bytes
		w.cpu, w.err = w.readCPU()
	case w.open && !now.Before(w.closes):
		w.finish(now)
		return false
	}
	return true
}

func (w *window) finish(now time.Time) {
	cpu, err := w.readCPU()
	if err != nil {
		w.err = err
		return
	}
	r := &Result{
		Elapsed: now.Sub(w.began),
		Ops:     w.ops - w.base.ops,
		Bytes:   w.bytes - w.base.bytes,
		AllOps:  w.ops,
		CPU:     make(map[string]time.Duration),
	}
	for name, used := range cpu {
		r.CPU[name] = used - w.cpu[name]
	}
	if w.hist.TotalCount() > 0 {
		b, err := w.hist.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
		if err != nil {
			w.err = fmt.Errorf("encode latencies: %w", err)
			return
		}
		r.Latency = string(b)
	}
	w.result = r
}

// record counts one operation that took d.
func (w *window) record(d time.Duration) {
	w.ops++
	if w.open {
		w.hist.RecordValue(min(max(int64(d), 1), latencyMost))
	}
}

func (w *window) readCPU() (map[string]time.Duration, error) {
	cpu := make(map[string]time.Duration, len(w.spec.Watch)+1)
	for name, pids := range w.spec.Watch {
		used, err := proc.CPU(pids...)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		cpu[name] = used
	}
	own, err := proc.CPU(selfPID)
	cpu["client"] = own
	return cpu, err
}
