package dataplane

import (
	"net/netip"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2/pkg/errors"
	"github.com/panjf2000/gnet/v2/pkg/netpoll"
	"github.com/panjf2000/gnet/v2/pkg/queue"

	"dill/dataplane/internal/sys"
	"dill/dataplane/route"
)

const (
	// batchEvents is how many events one epoll_wait may return.
	batchEvents = 256

	// napTime is how long a loop that has a P of its own (Engine.mayNap) waits
	// inside its epoll set, holding the P, before it goes back to the Poller and
	// parks. Parking hands the P over and costs two scheduler trips, too much
	// between two messages of a stream.
	napTime = 1 // ms

	// batchQuota is what the sessions of one batch of events share, in each
	// direction: hundreds of large messages make a batch of milliseconds, too.
	batchQuota = 16 << 20

	// busyStreak is how many lone messages in a row make a loop poll. Random
	// traffic, with gaps of BusyPoll on average, has such a streak once in 40.
	busyStreak = 8

	// turnTime is how long a loop may keep from the Poller if that has a task for
	// it, and from other goroutines if they have no other P.
	turnTime = time.Millisecond
)

// Keys of descriptors that belong to the loop and not to a session; a
// listener's is keyListener minus its index.
const (
	keyTimer    = -1
	keyListener = -2
)

// loop is one event loop: one goroutine, its listeners, its sessions. Every
// method of loop runs on that goroutine; others reach it through post.
//
// The goroutine runs a gnet Poller, which blocks while nothing happens and
// runs posted tasks. All of the loop's own descriptors are in an inner epoll
// set, which the Poller sees as one level-triggered descriptor.
type loop struct {
	// Constant after newLoop.
	engine *Engine
	id     int
	poller *netpoll.Poller
	set    int32 // the inner epoll set
	clock  int32 // timerfd: wakes the Poller, which waits without a timeout

	// reserve is a socket for the upstream leg of the next client, -1 when it is
	// spent. Without one nothing is accepted, so that clients wait in the
	// kernel's queue and not half served in a full process. It is of the family
	// that the last dial in need of it had.
	reserve       int32
	reserveFamily netip.Addr

	// Owned by the loop goroutine.
	now       int64 // ms on route.Now's clock, as of the present batch
	nowNs     int64
	events    []sys.Event
	pending   []sys.Event // events of the present batch not yet handled
	ready     readyQueue  // bulk, and what stopped on its quota
	quota     int         // of the session whose turn it is, bytes in each direction
	current   *session    // whom to blame for a panic
	cfg       *Config     // as of the present batch
	sessions  slab
	listeners []*listener // by index; nil = vacant
	vacant    []int32
	byAddr    map[netip.AddrPort]*listener
	closing   int    // listeners whose queue waits for descriptors before they close
	opened    uint32 // listeners so far: the generation of the next one
	wheel     wheel
	armedAt   int64 // when the timerfd goes off, ms; 0 = disarmed
	streak    int   // lone messages in quick succession, up to busyStreak
	passed    bool  // a small message went through since the last wait
	limitAt   int64 // when the connection limit may be reported again, ms
	scratch   []byte
	sa        sys.Sockaddr
	routes    *sys.Routes // nil where the system forbids to ask
	buffers   bufferPool
	pipes     pipePool
	dials     *dialing // free list
	stopping  bool
	onEvent   func(*session) // nil except in tests that inject faults

	tasks atomic.Int32 // posted and not yet run

	// Read by the watchdog.
	busySince atomic.Int64 // ns on that clock when the present batch began; 0 = parked

	stats counters
	done  chan struct{} // closed when the goroutine has ended
}

func newLoop(e *Engine, id int) (*loop, error) {
	l := &loop{
		engine:  e,
		id:      id,
		quota:   relayQuota,
		set:     -1,
		clock:   -1,
		reserve: -1,
		events:  make([]sys.Event, batchEvents),
		byAddr:  make(map[netip.AddrPort]*listener),
		scratch: make([]byte, scratchSize),
		done:    make(chan struct{}),
	}
	l.reserveFamily = netip.IPv4Unspecified()
	l.pipes.most = &e.budget.pipes
	if cfg := e.cfg.Load(); cfg.Splice != SpliceNever {
		l.pipes.ask = cfg.PipeSize
	}
	var err error
	if l.poller, err = netpoll.OpenPoller(); err != nil {
		return nil, err
	}
	var no sys.Errno
	if l.set, no = sys.EpollCreate(); no != 0 {
		l.release()
		return nil, no
	}
	if l.clock, no = sys.Timer(); no != 0 {
		l.release()
		return nil, no
	}
	if no = sys.EpollAdd(l.set, l.clock, sys.In|sys.Edge, sys.Key{ID: keyTimer}); no != 0 {
		l.release()
		return nil, no
	}
	if err = l.poller.AddRead(&netpoll.PollAttachment{FD: int(l.set)}, false); err != nil {
		l.release()
		return nil, err
	}
	if l.routes, no = sys.OpenRoutes(); sys.Scarce(no) {
		l.release()
		return nil, no
	}
	if no = l.refill(); no != 0 {
		l.release()
		return nil, no
	}
	l.tick()
	l.wheel.now = l.now
	return l, nil
}

// release closes what newLoop opened.
func (l *loop) release() {
	l.pipes.drain()
	l.routes.Close()
	_ = l.poller.Close()
	for _, fd := range []int32{l.set, l.clock, l.reserve} {
		if fd >= 0 {
			sys.Close(fd)
		}
	}
}

// run is the loop goroutine. It ends when a task asks for shutdown.
func (l *loop) run() {
	defer close(l.done)
	err := l.poller.Polling(func(int, netpoll.IOEvent, netpoll.IOFlags) error {
		l.work()
		return nil
	})
	if err != nil && err != errors.ErrEngineShutdown {
		panic("dill: BUG: poller: " + err.Error())
	}
	l.release()
}

// post has f run on the loop goroutine. It may be called from anywhere and
// never blocks; f's error ends the loop if it is ErrEngineShutdown.
func (l *loop) post(f func() error) {
	asked := time.Now()
	l.tasks.Add(1)
	err := l.poller.Trigger(queue.HighPriority, func(any) error {
		l.tasks.Add(-1)
		l.stats.Tasks.Add(1)
		raise(&l.stats.TaskDelayMaxUs, uint64(time.Since(asked).Microseconds()))
		l.tick()
		l.busySince.Store(l.nowNs)
		var err error
		l.contain(func() { err = f() })
		l.reap()
		l.rearm()
		l.busySince.Store(0)
		return err
	}, nil)
	if err != nil {
		panic("dill: BUG: post: " + err.Error())
	}
}

func raise(v *atomic.Uint64, n uint64) {
	if n > v.Load() {
		v.Store(n) // only the loop writes
	}
}

// work drains the inner set until it stays silent for napTime or a task waits
// in the Poller, and leaves the loop so that the Poller may block.
func (l *loop) work() {
	l.engine.working.Add(1)
	defer l.engine.working.Add(-1)
	l.tick()
	start := l.nowNs
	for {
		nap := napTime
		if l.ready.len > 0 || !l.engine.mayNap() {
			nap = 0
		}
		n := l.wait(nap)
		l.tick()
		l.busySince.Store(l.nowNs)
		if n > 0 {
			l.stats.Batches.Add(1)
		}
		idle := n == 0 && l.ready.len == 0
		l.pending = l.events[:n]
		l.quota = max(scratchSize, min(eventQuota, batchQuota/max(1, n)))
		for !l.batch() {
		}
		l.reap()
		over := time.Duration(l.nowNs-start) > turnTime
		switch {
		case idle, over && l.tasks.Load() > 0:
			l.rearm()
			l.busySince.Store(0)
			return
		case over:
			l.engine.yield()
			start = l.nowNs
		}
	}
}

// wait returns how many events are ready, sleeping for up to nap ms if there
// are none. After a streak of lone messages in quick succession, as when one
// client and its server take turns, it polls for a moment first: to be woken on
// another CPU takes longer than the answer does.
func (l *loop) wait(nap int) (n int) {
	limit := int64(l.cfg.BusyPoll)
	if !l.passed || nap == 0 || limit == 0 {
		l.streak = 0
		return sys.Wait(l.set, l.events, nap)
	}
	l.passed = false
	begun := route.Now()
	if l.streak >= busyStreak {
		l.stats.BusyPolls.Add(1)
		for n == 0 && route.Now()-begun < limit {
			n = sys.Wait(l.set, l.events, 0)
		}
	}
	if n == 0 {
		n = sys.Wait(l.set, l.events, nap)
	}
	if n == 1 && route.Now()-begun < limit {
		l.streak = min(l.streak+1, busyStreak)
	} else {
		l.streak = 0
	}
	return n
}

// tick reads the clock and the settings once for everything that follows.
func (l *loop) tick() {
	l.cfg = l.engine.cfg.Load()
	l.nowNs = route.Now()
	l.now = l.nowNs / int64(time.Millisecond)
}

// batch handles the pending events, then gives one session that waits its turn,
// then sees to due timers. Small messages go with their event and never stand
// behind more than one turn of bulk: after it the loop looks at its epoll set
// again. Bulk has a turn for each such look. It returns false when a session
// panicked: that session is gone, the rest is still to be handled.
func (l *loop) batch() (finished bool) {
	defer func() {
		if !finished {
			l.blame(recover())
		}
	}()
	for len(l.pending) > 0 {
		ev := &l.pending[0]
		l.pending = l.pending[1:]
		l.event(ev)
	}
	if l.ready.len > 0 {
		k := l.ready.pop()
		if s := l.sessions.at(k.slot); s.gen == k.gen {
			s.queued = false
			l.current, l.quota = s, relayQuota
			l.relay(s)
		}
	}
	for t := l.wheel.expire(l.now); t != nil; t = l.wheel.expire(l.now) {
		l.fire(t.key)
	}
	l.current = nil
	return true
}

// contain runs f, which is no event's handler, and ends the session in which
// it panics.
func (l *loop) contain(f func()) {
	finished := false
	defer func() {
		if !finished {
			l.blame(recover())
		}
	}()
	l.current = nil
	f()
	l.current = nil
	finished = true
}

// each calls f for every session; f may end the session. One that panics does
// not keep f from the others.
func (l *loop) each(f func(*session)) {
	l.sessions.each(func(s *session) {
		l.contain(func() {
			l.current = s
			f(s)
		})
	})
}

// blame ends the session that a panic happened in; the loop goes on.
func (l *loop) blame(cause any) {
	l.stats.Panics.Add(1)
	l.engine.report(panicked{cause: cause, stack: debug.Stack()})
	s := l.current
	l.current = nil
	if s != nil && s.phase != free {
		l.abort(s)
	}
}

func (l *loop) event(ev *sys.Event) {
	k := ev.Key()
	switch {
	case k.ID == keyTimer:
		l.armedAt = 0
	case k.ID <= keyListener:
		if ln := l.listenerAt(k); ln != nil {
			l.current = nil
			l.accept(ln)
		}
	default:
		s := l.sessions.at(k.ID >> 1)
		if s.gen != k.Gen {
			return // ended earlier in this batch
		}
		l.current = s
		if l.onEvent != nil {
			l.onEvent(s)
		}
		l.ioEvent(s, int(k.ID&1), ev.Events)
	}
}

// ioEvent notes what an event hints at and moves the session on.
func (l *loop) ioEvent(s *session, i int, bits uint32) {
	d := &s.side[i]
	if bits&(sys.In|sys.RdHup|sys.Hup|sys.Err) != 0 {
		d.set(readable)
	}
	if bits&sys.Pri != 0 {
		d.set(readable | urgent)
	}
	if bits&(sys.RdHup|sys.Hup|sys.Err) != 0 && !d.has(hinted) {
		d.set(hinted)
		s.moved = l.now // the half-close timeout runs from now on
	}
	if bits&sys.Err != 0 || bits&sys.Hup != 0 && !d.has(shut) {
		d.set(gone)
	}
	if bits&(sys.Out|sys.Hup|sys.Err) != 0 {
		d.set(writable)
	}
	switch s.phase {
	case connecting:
		l.connectEvent(s, i, bits)
	case handshaking:
		l.handshakeEvent(s, i, bits)
	case relaying:
		if bits&sys.Err != 0 {
			// Known now, although what came before may wait for a slow reader.
			d.set(failed)
		}
		if d.f&(gone|eof|failed) == gone|eof {
			d.confirmReset()
		}
		if d.has(hinted) {
			l.armRelay(s) // for that timeout
		}
		if s.flow[client].splicing || s.flow[upstream].splicing {
			l.later(s)
		} else {
			l.relay(s)
		}
	}
}

// fire is a timer that went off.
func (l *loop) fire(key int32) {
	if key <= keyListener {
		if ln := l.listeners[keyListener-key]; ln != nil {
			l.current = nil
			l.resume(ln)
		}
		return
	}
	s := l.sessions.at(key)
	l.current = s
	if s.phase == relaying {
		l.relayTimer(s)
	} else {
		l.dialTimer(s)
	}
}

// later has a session wait its turn: an edge that was used up does not come
// again.
func (l *loop) later(s *session) {
	if !s.queued {
		s.queued = true
		l.ready.push(readyKey{s.slot, s.gen})
	}
}

// rearm sets the timerfd before the loop may block.
func (l *loop) rearm() {
	if l.ready.len > 0 {
		sys.SetTimer(l.clock, 1) // at once
		l.armedAt = l.now
		return
	}
	at, ok := l.wheel.next()
	if !ok {
		return // a late expiry does no harm
	}
	if l.armedAt == 0 || at < l.armedAt {
		l.armedAt = at
		sys.SetTimer(l.clock, max(1, at*int64(time.Millisecond)-l.nowNs))
	}
}

// reap ends the loop's life once it is stopping and nothing is left.
func (l *loop) reap() {
	if l.stopping && l.sessions.live == 0 && l.closing == 0 {
		l.engine.loopIdle()
		l.stopping = false
	}
}
