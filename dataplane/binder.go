package dataplane

import (
	"errors"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"dill/dataplane/internal/sys"
	"dill/dataplane/route"
)

// A port that cannot be bound is tried again after bindFirst, doubling to
// bindMost: who takes a port over from another process waits no longer. Where
// many fail, each adds bindEach to that, since an attempt costs some 10 µs.
const (
	bindFirst = 100 * time.Millisecond
	bindMost  = 250 * time.Millisecond
	bindEach  = 500 * time.Microsecond

	// bindJitter is how much of a pause is random: two processes that want the
	// same port at the same moment can both be refused.
	bindJitter = 0.2
)

// binder keeps the listening sockets in step with the newest table. It opens
// them, one per loop and all of an address or none, and hands them to the
// loops, which own them from then on.
type binder struct {
	// Constant after newBinder.
	engine *Engine
	wake   chan struct{} // there is something to do; holds one
	quit   chan struct{}
	done   chan struct{}

	// Owned by run.
	open    map[netip.AddrPort]opened
	failed  map[netip.AddrPort]*bindFailure
	holders holders
	table   *route.Table       // reconciled last
	news    portNews           // of this reconciliation
	told    int                // connection limit, as last logged
	advised map[sys.Errno]bool // a remedy was logged

	// Guarded by mu.
	mu    sync.Mutex
	fresh []*route.Table // published since run looked, oldest first
	state map[netip.AddrPort]error
}

// opened is the newest route that any table had for an open address, and the
// generation of that table.
type opened struct {
	route      *route.Listener
	generation uint64
}

type bindFailure struct {
	errno sys.Errno
	told  sys.Errno // as last logged
	err   error     // errno, and what is known about it
	wait  time.Duration
	retry time.Time
}

func newBinder(e *Engine) *binder {
	return &binder{
		engine:  e,
		wake:    make(chan struct{}, 1),
		quit:    make(chan struct{}),
		done:    make(chan struct{}),
		open:    make(map[netip.AddrPort]opened),
		failed:  make(map[netip.AddrPort]*bindFailure),
		table:   new(route.Table),
		told:    e.ConnectionLimit(),
		advised: make(map[sys.Errno]bool),
	}
}

// publish is Engine.Publish. The binder acts on the newest table only, and yet
// sees each: what one had that was skipped may have sessions.
func (b *binder) publish(t *route.Table) {
	b.mu.Lock()
	b.engine.table.Store(t)
	b.fresh = append(b.fresh, t)
	b.mu.Unlock()
	b.poke()
}

// poke has run look at tables and settings.
func (b *binder) poke() {
	select {
	case b.wake <- struct{}{}:
	default: // one is waiting, and it will load the newest
	}
}

// stop closes every listener and ends run.
func (b *binder) stop() {
	close(b.quit)
	<-b.done
}

// listening is Engine.Listening.
func (b *binder) listening() map[netip.AddrPort]error {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := make(map[netip.AddrPort]error, len(b.state))
	for _, l := range b.engine.table.Load().Listeners {
		err, known := b.state[l.Addr]
		if !known {
			err = errNotYet
		}
		m[l.Addr] = err
	}
	return m
}

var errNotYet = errors.New("about to be opened")

func (b *binder) run() {
	defer close(b.done)
	retry := time.NewTimer(time.Hour)
	defer retry.Stop()
	for {
		select {
		case <-b.quit:
			// Shutdown decides how long sessions have.
			b.closeAll(b.open, func(*route.Listener) time.Duration { return 0 })
			return
		case <-b.wake:
		case <-retry.C:
		}
		b.follow()
		b.closeGone()
		b.openNew(time.Now())
		if len(b.news.opened) > 0 {
			// Open is what every loop serves: until then a backend that leads back
			// to the new listener looks like any other.
			b.post(func(*loop) {})
		}
		b.publishState()
		b.news.log(b.engine.log)
		b.news = portNews{}
		if next := b.nextRetry(); !next.IsZero() {
			retry.Reset(time.Until(next))
		}
	}
}

// follow goes through the tables that were published since the last time: it
// keeps what they say of open listeners, and has the sessions of backends that
// left drained.
func (b *binder) follow() {
	b.mu.Lock()
	fresh := b.fresh
	b.fresh = nil
	b.mu.Unlock()
	left := make(leavers)
	for _, t := range fresh {
		left.note(b.lastRoute, t)
		for addr := range b.open {
			if r := t.Lookup(addr); r != nil {
				b.open[addr] = opened{r, t.Generation}
			}
		}
		b.table = t
	}
	if len(left) > 0 {
		t := b.table
		for _, l := range b.engine.loops {
			l.post(func() error { l.drainLeavers(left, t); return nil })
		}
	}
}

// lastRoute is the newest route that a table before had for addr: if it is open,
// also one from before a table that did not have it.
func (b *binder) lastRoute(addr netip.AddrPort) *route.Listener {
	if o, open := b.open[addr]; open {
		return o.route
	}
	return b.table.Lookup(addr)
}

// closeGone closes what the table does not have any more.
func (b *binder) closeGone() {
	gone := make(map[netip.AddrPort]opened)
	for addr, o := range b.open {
		if b.table.Lookup(addr) == nil {
			gone[addr] = o
		}
	}
	maps.DeleteFunc(b.failed, func(addr netip.AddrPort, _ *bindFailure) bool { return b.table.Lookup(addr) == nil })
	general := b.engine.cfg.Load().DrainTimeout
	b.closeAll(gone, func(r *route.Listener) time.Duration {
		if r.DrainTimeout > 0 {
			return r.DrainTimeout
		}
		return general
	})
	for _, addr := range slices.SortedFunc(maps.Keys(gone), netip.AddrPort.Compare) {
		b.news.closed = append(b.news.closed, gone[addr].route)
	}
}

// openNew opens what the table has and is not open, unless it failed a moment
// ago.
func (b *binder) openNew(now time.Time) {
	unexplained := false
	for _, r := range b.table.Listeners {
		f := b.failed[r.Addr]
		if _, open := b.open[r.Addr]; open || f != nil && now.Before(f.retry) {
			continue
		}
		e := b.bind(r)
		if e == 0 {
			delete(b.failed, r.Addr)
			b.news.opened = append(b.news.opened, r)
			continue
		}
		if f == nil {
			f = new(bindFailure)
			b.failed[r.Addr] = f
		}
		f.wait = bindPause(f.wait, len(b.failed))
		f.retry = now.Add(f.wait + time.Duration(rand.Float64()*bindJitter*float64(f.wait)))
		unexplained = unexplained || f.told != e
		f.errno = e
	}
	b.explainAll(unexplained, now)
	b.divide()
}

// bindPause is how long to leave a port alone that failed again after last, 0
// for the first time, while so many fail.
func bindPause(last time.Duration, failing int) time.Duration {
	return min(max(bindFirst, 2*last), max(bindMost, time.Duration(failing)*bindEach))
}

// nextRetry is when the next failed listener is to be tried again; zero for
// never.
func (b *binder) nextRetry() (next time.Time) {
	for _, f := range b.failed {
		if next.IsZero() || f.retry.Before(next) {
			next = f.retry
		}
	}
	return next
}

// bind opens r on every loop, or on none.
func (b *binder) bind(r *route.Listener) sys.Errno {
	loops := b.engine.loops
	if !b.engine.room(len(b.open), len(loops)) {
		return sys.EMFILE // what is left is not ours
	}
	cfg := b.engine.cfg.Load()
	fds, e := sys.Listen(r.Addr, len(loops), sys.ListenOptions{Backlog: cfg.Backlog, KeepAlive: cfg.KeepAlive, UserTimeout: cfg.UserTimeout})
	if e != 0 {
		return e
	}
	generation := b.table.Generation
	for i, l := range loops {
		l.post(func() error { l.listen(r.Addr, fds[i], r, generation); return nil })
	}
	b.open[r.Addr] = opened{r, generation}
	return 0
}

// divide sets the connection limit by what is open and what waits for
// descriptors.
func (b *binder) divide() {
	listeners := len(b.open)
	for _, f := range b.failed {
		if sys.Scarce(f.errno) {
			listeners++
		}
	}
	if b.engine.divide(listeners) {
		for _, l := range b.engine.loops {
			l.post(func() error { l.pipes.shed(int(l.pipes.most.Load())); return nil })
		}
	}
	limit := b.engine.ConnectionLimit()
	if diff := limit - b.told; max(diff, -diff) > b.told/8 {
		b.engine.log.Info("connection limit follows the ports", attrLimit, limit, attrListeners, listeners)
		b.told = limit
	}
}

// closeAll closes listeners on every loop and waits until it is done, so that a
// port that comes back at once is not met by its own remains. drain tells how
// long the sessions of a route have; 0 is for ever.
func (b *binder) closeAll(gone map[netip.AddrPort]opened, drain func(*route.Listener) time.Duration) {
	if len(gone) == 0 {
		return
	}
	leave := make(map[netip.AddrPort]leaving, len(gone))
	for addr, o := range gone {
		leave[addr] = leaving{o.route, o.generation, drain(o.route)}
	}
	// Said before it is done: an address that is published again meanwhile must
	// not pass for open because it was.
	maps.DeleteFunc(b.open, func(addr netip.AddrPort, _ opened) bool { _, ok := leave[addr]; return ok })
	b.publishState()
	b.post(func(l *loop) { l.unlisten(leave) })
}

// post has every loop do something and waits until all have.
func (b *binder) post(do func(*loop)) {
	var wg sync.WaitGroup
	for _, l := range b.engine.loops {
		wg.Add(1)
		l.post(func() error {
			defer wg.Done()
			do(l)
			return nil
		})
	}
	wg.Wait()
}

func (b *binder) publishState() {
	m := make(map[netip.AddrPort]error, len(b.open)+len(b.failed))
	for addr := range b.open {
		m[addr] = nil
	}
	for addr, f := range b.failed {
		m[addr] = f.err
	}
	b.mu.Lock()
	b.state = m
	b.mu.Unlock()
}
