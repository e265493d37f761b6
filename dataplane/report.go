package dataplane

import (
	"log/slog"
	"net/netip"
	"time"

	"dill/dataplane/route"
)

// What a loop has to say goes to one goroutine that logs it: a loop never
// waits for a log. Each kind is rare by nature or throttled here.
type (
	panicked struct {
		cause any
		stack []byte
	}
	stalled struct {
		loop int
		age  time.Duration
	}
	acceptPaused struct {
		addr  netip.AddrPort
		cause error
	}
	limitReached   struct{ limit int }
	backendEjected struct {
		listener netip.AddrPort
		backend  *route.Backend
		out      time.Duration
	}
	backendBack struct {
		listener netip.AddrPort
		backend  *route.Backend
	}
)

// Attribute keys of this package's log lines; a key of an epoll set is another
// thing.
const (
	attrListener  = "listener"
	attrListeners = "listeners"
	attrOwner     = "owner"
	attrBackend   = "backend"
	attrBackends  = "backends"
	attrErr       = "err"
	attrFor       = "for"
	attrLoop      = "loop"
	attrLimit     = "limit"
	attrPanic     = "panic"
	attrStack     = "stack"
	attrDropped   = "dropped"
)

// reportEvery is the least time between two log lines of one kind.
const reportEvery = 5 * time.Second

// reporter logs for the loops.
type reporter struct {
	log   *slog.Logger
	queue chan any
	quit  <-chan struct{}
	kinds map[string]*throttle // owned by run
}

// throttle is what one kind of line has behind it.
type throttle struct {
	last    time.Time
	dropped int
}

func newReporter(log *slog.Logger, quit <-chan struct{}) *reporter {
	return &reporter{
		log:   log,
		queue: make(chan any, 64),
		quit:  quit,
		kinds: make(map[string]*throttle),
	}
}

// take queues r, or drops it when the log is behind; counters lose nothing.
func (r *reporter) take(what any) {
	select {
	case r.queue <- what:
	default:
	}
}

func (r *reporter) run() {
	for {
		select {
		case what := <-r.queue:
			r.line(what)
		case <-r.quit:
			return
		}
	}
}

func (r *reporter) line(what any) {
	switch w := what.(type) {
	case panicked:
		r.log.Error("session killed by a bug in dill", attrPanic, w.cause, attrStack, string(w.stack))
	case stalled:
		r.warn("event loop stalled", attrLoop, w.loop, attrFor, w.age)
	case acceptPaused:
		r.warn("out of file descriptors or memory, new connections wait", attrListener, w.addr, attrErr, w.cause)
	case limitReached:
		r.warn("connection limit reached, new connections are reset", attrLimit, w.limit)
	case backendEjected:
		r.warn("backend left out after failed connects", attrListener, w.listener, attrBackend, w.backend.Target(), attrFor, w.out)
	case backendBack:
		r.log.Info("backend is back", attrListener, w.listener, attrBackend, w.backend.Target())
	default:
		panic("dill: BUG: unknown report")
	}
}

// warn logs at most one line of a kind in reportEvery, and how many it held back.
func (r *reporter) warn(msg string, args ...any) {
	k := r.kinds[msg]
	if k == nil {
		k = new(throttle)
		r.kinds[msg] = k
	}
	now := time.Now()
	if now.Sub(k.last) < reportEvery {
		k.dropped++
		return
	}
	if k.dropped > 0 {
		args = append(args, attrDropped, k.dropped)
	}
	k.last, k.dropped = now, 0
	r.log.Warn(msg, args...)
}
