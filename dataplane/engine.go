package dataplane

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2/pkg/errors"
	"github.com/panjf2000/gnet/v2/pkg/logging"
	"go.uber.org/zap"

	"dill/dataplane/internal/sys"
	"dill/dataplane/route"
)

// Engine relays connections of the listeners in the table that was published
// last. Its methods may be called from any goroutine.
type Engine struct {
	// Constant after New.
	log       *slog.Logger
	ephemeral portRange // the kernel's source ports
	loops     []*loop
	binder    *binder
	reporter  *reporter
	budget    budget

	// Atomic.
	cfg      atomic.Pointer[Config]
	table    atomic.Pointer[route.Table]
	sessions atomic.Int64 // open now, of all loops
	failing  atomic.Bool  // an attempt to connect has failed since failureLog looked
	working  atomic.Int32 // loops that are not parked in their Poller
	procs    atomic.Int32 // GOMAXPROCS, as of the last look

	devices hostDevices

	stop    sync.Once
	stopped chan struct{}
	idle    sync.WaitGroup // loops that still have sessions during Shutdown

	background sync.WaitGroup // reporter and watchdog
}

// New starts the event loops; nothing is served before the first Publish.
func New(cfg Config, log *slog.Logger) (*Engine, error) {
	cfg = cfg.withDefaults()
	// The poller's package would log to stdout through a logger of its own.
	logging.SetDefaultLoggerAndFlusher(zap.NewNop().Sugar(), nil)
	e := &Engine{log: log, stopped: make(chan struct{})}
	e.ephemeral = sourcePorts()
	e.cfg.Store(&cfg)
	e.divide(0)
	e.procs.Store(int32(runtime.GOMAXPROCS(0)))
	e.table.Store(new(route.Table))
	e.devices.read()
	e.reporter = newReporter(e)
	for id := range cfg.Loops {
		l, err := newLoop(e, id)
		if err != nil {
			for _, l := range e.loops {
				l.release()
			}
			return nil, fmt.Errorf("event loop %d: %w", id, err)
		}
		e.loops = append(e.loops, l)
	}
	e.binder = newBinder(e)
	e.register()
	for _, l := range e.loops {
		go l.run()
	}
	go e.binder.run()
	e.background.Go(e.reporter.run)
	e.background.Go(e.watch)
	return e, nil
}

// Loops is the number of event loops.
func (e *Engine) Loops() int { return len(e.loops) }

// Publish makes t the table of every connection accepted from now on, and has
// listeners opened and closed accordingly. t must not change afterwards. It
// does not wait; see Listening.
func (e *Engine) Publish(t *route.Table) { e.binder.publish(t) }

// Reconfigure takes over timeouts and limits at run time, for sessions that
// exist too. Loops, Splice, PipeSize and what sockets inherit (Backlog,
// KeepAlive and UserTimeout of the client leg) stay as they are.
func (e *Engine) Reconfigure(cfg Config) {
	cfg = cfg.withDefaults()
	old := e.cfg.Load()
	cfg.Loops, cfg.Splice, cfg.PipeSize = old.Loops, old.Splice, old.PipeSize
	e.cfg.Store(&cfg)
	e.binder.poke() // the connection limit may be another
	for _, l := range e.loops {
		l.post(func() error { l.rearmAll(); return nil })
	}
}

// rearmAll brings timers forward that new settings make due earlier.
func (l *loop) rearmAll() {
	l.each(func(s *session) {
		if s.phase == relaying {
			l.armRelay(s)
		}
	})
}

// Listening tells of every listener in the newest table whether it is open:
// nil, or why it is not yet: route.ErrInUse if another program listens there. The
// map is the caller's.
func (e *Engine) Listening() map[netip.AddrPort]error { return e.binder.listening() }

// Shutdown closes all listeners, lets sessions finish until ctx ends, resets
// the rest and ends the loops. It returns ctx's error if any were reset. Only
// the first call does anything.
func (e *Engine) Shutdown(ctx context.Context) error {
	err := error(nil)
	e.stop.Do(func() {
		e.binder.stop() // closes every listener, with no drain limit of its own
		e.idle.Add(len(e.loops))
		for _, l := range e.loops {
			l.post(func() error { l.stopping = true; return nil })
		}
		idle := make(chan struct{})
		go func() { e.idle.Wait(); close(idle) }()
		select {
		case <-idle:
		case <-ctx.Done():
			for _, l := range e.loops {
				l.post(func() error { l.resetAll(); return nil })
			}
			<-idle
			// Only now is it known: a session may have ended by itself meanwhile.
			if e.wereReset() > 0 {
				err = ctx.Err()
			}
		}
		for _, l := range e.loops {
			l.post(func() error { return errors.ErrEngineShutdown })
			<-l.done
		}
		e.retire()
		close(e.stopped)
		e.background.Wait()
	})
	return err
}

// wereReset is how many sessions Shutdown reset.
func (e *Engine) wereReset() (n uint64) {
	for _, l := range e.loops {
		n += l.stats.Shutdown.Load()
	}
	return n
}

// resetAll ends every session of a loop that is out of time.
func (l *loop) resetAll() {
	for _, ln := range l.listeners {
		if ln != nil && ln.closing {
			l.remove(ln)
		}
	}
	l.each(func(s *session) {
		l.stats.Shutdown.Add(1)
		l.abort(s)
	})
}

// loopIdle is called once by each loop that is stopping and has no session.
func (e *Engine) loopIdle() { e.idle.Done() }

// report hands something worth a log line to the reporter, without blocking.
func (e *Engine) report(r any) { e.reporter.take(r) }

// RaiseOpenFiles lifts RLIMIT_NOFILE to its hard limit and returns the limit
// in force.
func RaiseOpenFiles() (uint64, error) { return sys.RaiseOpenFiles() }

// yield lets other goroutines run, if the loops hold every P there is. With a
// P to spare they do not need it, and Gosched would do harm: it wakes a thread
// for that P, which takes the loop over to another CPU.
func (e *Engine) yield() {
	if e.working.Load() >= e.procs.Load() {
		runtime.Gosched()
	}
}

// mayNap reports whether a loop may wait inside its own epoll set. That wait
// holds a P: with fewer of them than loops, every other loop would stand still
// for as long.
func (e *Engine) mayNap() bool { return len(e.loops) <= int(e.procs.Load()) }

// watchEvery is how often the watchdog looks, stallAfter the age at which a
// batch counts as stalled.
const (
	watchEvery = 50 * time.Millisecond
	stallAfter = 100 * time.Millisecond
)

// watch reports loops whose present batch is older than stallAfter. A parked
// loop has none, so silence is not a stall.
func (e *Engine) watch() {
	seen := make([]int64, len(e.loops))
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	for {
		select {
		case <-e.stopped:
			return
		case <-t.C:
		}
		e.procs.Store(int32(runtime.GOMAXPROCS(0))) // it follows cgroup limits
		e.devices.refresh()
		for i, l := range e.loops {
			since := l.busySince.Load()
			age := time.Duration(route.Now() - since)
			if since != 0 && since != seen[i] && age > stallAfter {
				seen[i] = since // once per batch
				l.stats.Stalls.Add(1)
				e.report(stalled{loop: i, age: age})
			}
		}
	}
}
