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
		failure  route.Failure
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
	attrRemedy    = "remedy"
	attrFor       = "for"
	attrFailures  = "failures"
	attrProxy     = "proxy"
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
	engine *Engine
	log    *slog.Logger
	queue  chan any

	// Owned by run.
	kinds    map[string]*throttle
	failures failureLog
}

// throttle is what one kind of line has behind it.
type throttle struct {
	last    time.Time
	dropped int
}

func newReporter(e *Engine) *reporter {
	return &reporter{
		engine:   e,
		log:      e.log,
		queue:    make(chan any, 64),
		kinds:    make(map[string]*throttle),
		failures: failureLog{log: e.log},
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
	look := time.NewTicker(failureEvery)
	defer look.Stop()
	for {
		select {
		case what := <-r.queue:
			r.line(what)
		case <-look.C:
			if e := r.engine; e.failing.Swap(false) || r.failures.busy() {
				r.failures.look(route.Now(), e.table.Load())
			}
		case <-r.engine.stopped:
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
		r.warn("backend left out after failed connects", attrListener, w.listener, attrBackend, w.backend.Target(), attrErr, w.failure.Reason(), attrFor, w.out)
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
