package dataplane

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"dill/dataplane/internal/sys"
	"dill/dataplane/route"
)

const (
	// acceptBurst bounds the accepts of one wake-up, so that a storm of new
	// connections does not starve the established ones (HAProxy measured 4 as
	// better than 64).
	acceptBurst = 4

	// acceptPause is how long a listener rests when descriptors or memory run
	// out. Clients stay in the kernel's queue meanwhile. What comes free goes to one
	// loop at a time, so that a client may wait for two of them.
	acceptPause = 80 // ms

	// drainJitter spreads the resets at the end of a drain, so that not all
	// clients come back at once: up to this share of the drain time.
	drainJitter = 0.1
)

// listener is one loop's SO_REUSEPORT socket of a served address.
type listener struct {
	addr  netip.AddrPort
	fd    int32 // owned; -1 once closed
	index int32
	gen   uint32
	pause timer

	// What the newest table that had addr said about it, and which that was. It
	// outlives the table's entry: connections that queued before the port went
	// away are still served by it.
	route      *route.Listener
	generation uint64
	looked     uint64 // generation of the table that was looked at last

	// closing: nobody polls it, the address may be another listener's, and its
	// queue waits for descriptors.
	closing bool
	drain   time.Duration // of the sessions that come of the queue; 0 = none
	closeAt int64         // then at the latest, ms
}

func (ln *listener) key() sys.Key { return sys.Key{ID: keyListener - ln.index, Gen: ln.gen} }

// listen takes over fd, a listening socket of addr, which the table of that
// generation gave the route r. A newer one may have none already.
func (l *loop) listen(addr netip.AddrPort, fd int32, r *route.Listener, generation uint64) {
	index := int32(len(l.listeners))
	if n := len(l.vacant); n > 0 {
		index, l.vacant = l.vacant[n-1], l.vacant[:n-1]
	} else {
		l.listeners = append(l.listeners, nil)
	}
	l.opened++
	ln := &listener{addr: addr, fd: fd, index: index, gen: l.opened, route: r, generation: generation}
	ln.pause.key = ln.key().ID
	l.listeners[index] = ln
	l.byAddr[addr] = ln
	if e := sys.EpollAdd(l.set, fd, sys.In, ln.key()); e != 0 {
		l.rest(ln, e) // out of memory or watches; resume tries again
	}
}

// leaving is a listener that goes: the last route it had, the generation of the
// table that had it, and what limits its sessions from now on; 0 = nothing.
type leaving struct {
	route      *route.Listener
	generation uint64
	drain      time.Duration
}

// unlisten serves what is queued on the sockets of these addresses, closes
// them, and gives their sessions time to finish.
func (l *loop) unlisten(gone map[netip.AddrPort]leaving) {
	for addr, g := range gone {
		ln := l.byAddr[addr]
		if ln == nil {
			continue
		}
		if g.generation > ln.generation {
			ln.route, ln.generation = g.route, g.generation
		}
		l.close(ln, g.drain)
	}
	l.each(func(s *session) {
		// Those of an earlier opening too: their time counts anew.
		if g, ok := gone[s.ln.addr]; ok && g.drain > 0 {
			l.drain(s, g.drain)
		}
	})
}

// close serves what is queued on ln's socket and closes it, as soon as there are
// descriptors for that. Its sessions have so long to finish.
func (l *loop) close(ln *listener, drain time.Duration) {
	l.wheel.disarm(&ln.pause)
	sys.EpollDel(l.set, ln.fd)
	delete(l.byAddr, ln.addr)
	ln.drain, ln.closeAt = drain, l.now+ms(l.cfg.ConnectTotalTimeout)
	ln.closing = true
	l.closing++
	l.empty(ln)
}

// empty serves what is queued on ln, which is closing, and removes it. Clients
// stay queued while descriptors are out, no longer than a dial waits for them.
func (l *loop) empty(ln *listener) {
	// The kernel resets what is still queued on close. Whoever connects this
	// very moment may be reset; the bound keeps a flood from holding us here.
	for range 1 << 16 {
		fd, e := int32(-1), l.refill()
		if e == 0 {
			fd, e = sys.Accept(ln.fd, &l.sa)
		}
		switch {
		case e == 0:
			l.contain(func() { l.admit(ln, fd) })
		case transient(e):
		case sys.Scarce(e) && l.now < ln.closeAt:
			l.spend()
			l.stats.AcceptPaused.Add(1)
			l.engine.report(acceptPaused{addr: ln.addr, cause: e})
			l.wheel.arm(&ln.pause, l.now+acceptPause)
			return
		default: // EAGAIN: nobody is left
			l.remove(ln)
			return
		}
	}
	l.remove(ln)
}

// remove closes ln's socket and forgets it.
func (l *loop) remove(ln *listener) {
	l.wheel.disarm(&ln.pause)
	sys.Close(ln.fd)
	ln.fd, ln.closing = -1, false
	l.closing--
	l.listeners[ln.index] = nil
	l.vacant = append(l.vacant, ln.index)
}

// emptyLater goes on with a queue that waited for descriptors.
func (l *loop) emptyLater(ln *listener) {
	l.empty(ln)
	if ln.drain == 0 {
		return
	}
	l.each(func(s *session) {
		if s.ln == ln && s.drainAt == 0 {
			l.drain(s, ln.drain)
		}
	})
}

// drain gives s that long before it is reset, unless its route comes back.
func (l *loop) drain(s *session, d time.Duration) {
	d += time.Duration(rand.Float64() * drainJitter * float64(d))
	s.drainAt = l.now + max(1, int64(d/time.Millisecond))
	l.wheel.armBefore(&s.timer, s.drainAt)
}

// leavers are the backends that left a listener; nil stands for whatever its
// newest route has not.
type leavers map[netip.AddrPort][]*route.Backend

func (v leavers) has(listener netip.AddrPort, b *route.Backend) bool {
	left, some := v[listener]
	return some && (left == nil || slices.ContainsFunc(left, func(other *route.Backend) bool { return b.CompareTarget(other) == 0 }))
}

// note adds the backends that the last routes have and t has not, of
// listeners in both. Those that are missing while a route waits have left once
// it waits no more and still lacks them.
func (v leavers) note(last func(netip.AddrPort) *route.Listener, t *route.Table) {
	for _, r := range t.Listeners {
		before := last(r.Addr)
		if before == nil || before == r || r.Waiting {
			continue
		}
		left, some := v[r.Addr]
		if before.Waiting || some && left == nil {
			v[r.Addr] = nil
			continue
		}
		for _, b := range before.Backends {
			if r.Backend(b) == nil {
				v[r.Addr] = append(v[r.Addr], b)
			}
		}
	}
}

// drainLeavers starts the drain of sessions whose backend is among those that
// left and is not in t, behind a listener that limits how long they may stay.
func (l *loop) drainLeavers(left leavers, t *route.Table) {
	l.each(func(s *session) {
		if s.backend == nil || !left.has(s.ln.addr, s.backend) {
			return
		}
		r := t.Lookup(s.ln.addr)
		draining := left[s.ln.addr] == nil && s.drainAt != 0 // since before the wait
		if r != nil && r.DrainTimeout > 0 && !r.Waiting && !draining && r.Backend(s.backend) == nil {
			l.drain(s, r.DrainTimeout)
		}
	})
}

// listenerAt finds whom a key belongs to; nil if it was closed meanwhile.
func (l *loop) listenerAt(k sys.Key) *listener {
	ln := l.listeners[keyListener-k.ID]
	if ln == nil || ln.gen != k.Gen {
		return nil
	}
	return ln
}

// accept takes a few connections off ln's queue.
func (l *loop) accept(ln *listener) {
	for range acceptBurst {
		if l.full() {
			l.rest(ln, sys.EMFILE)
			return
		}
		if e := l.refill(); e != 0 {
			l.rest(ln, e)
			return
		}
		fd, e := sys.Accept(ln.fd, &l.sa)
		switch {
		case e == 0:
			l.admit(ln, fd)
		case e == sys.EAGAIN:
			return
		case transient(e):
			l.stats.AcceptErrors.Add(1)
		case outOfFiles(e) && l.cfg.turnsAway() && l.turnAway(ln):
		default:
			// Out of descriptors or memory, or something that would repeat at
			// once on a level-triggered socket. A reserve that waits for one more
			// descriptor may be the one that another loop waits for.
			l.spend()
			l.rest(ln, e)
			return
		}
	}
}

// full reports whether clients have to wait because the budget of descriptors
// is used up. Loops do not count the clients that others are about to accept.
func (l *loop) full() bool {
	if l.cfg.MaxConnections >= 0 {
		return false // beyond the limit they are reset, see admit
	}
	e := l.engine
	return e.sessions.Load() > max(0, e.budget.clients.Load()-int64(len(e.loops)))
}

// turnAway resets the first client in ln's queue, for which the reserve makes
// room.
func (l *loop) turnAway(ln *listener) bool {
	if !l.spend() {
		return false
	}
	fd, e := sys.Accept(ln.fd, &l.sa)
	if e != 0 {
		return false
	}
	l.stats.Accepted.Add(1)
	l.noteRefused()
	sys.Reset(fd)
	_ = l.refill() // at once, or others take what came free
	return true
}

func outOfFiles(e sys.Errno) bool { return e == sys.EMFILE || e == sys.ENFILE }

// noteRefused counts and reports a client that is one too many.
func (l *loop) noteRefused() {
	l.stats.Refused.Add(1)
	if l.now >= l.limitAt { // a report allocates, and this may be a flood
		l.limitAt = l.now + ms(reportEvery)
		l.engine.report(limitReached{limit: l.engine.ConnectionLimit()})
	}
}

// rest stops polling ln for a while.
func (l *loop) rest(ln *listener, why sys.Errno) {
	l.stats.AcceptPaused.Add(1)
	l.engine.report(acceptPaused{addr: ln.addr, cause: why})
	sys.EpollMod(l.set, ln.fd, 0, ln.key())
	l.wheel.arm(&ln.pause, l.now+acceptPause)
}

// refill sees to it that the loop has its reserve.
func (l *loop) refill() (e sys.Errno) {
	if l.reserve < 0 {
		l.reserve, e = sys.Socket(l.reserveFamily)
	}
	return e
}

// spend gives the reserve up, if there is one, to make room for one descriptor.
func (l *loop) spend() bool {
	if l.reserve < 0 {
		return false
	}
	sys.Close(l.reserve)
	l.reserve = -1
	return true
}

// transient says that an error of accept belongs to the one connection that
// failed while it was queued.
func transient(e sys.Errno) bool {
	return e == sys.ECONNABORTED || e == sys.EPERM || e == sys.EPROTO
}

// resume ends a pause.
func (l *loop) resume(ln *listener) {
	if ln.closing {
		l.emptyLater(ln)
		return
	}
	if sys.EpollMod(l.set, ln.fd, sys.In, ln.key()) == 0 {
		return
	}
	if e := sys.EpollAdd(l.set, ln.fd, sys.In, ln.key()); e != 0 { // never got in
		l.rest(ln, e)
	}
}

// admit makes a session of an accepted connection, whose peer is in l.sa, and
// starts to connect it. It takes over fd.
func (l *loop) admit(ln *listener, fd int32) {
	l.stats.Accepted.Add(1)
	r := l.lookup(ln)
	from := l.sa.AddrPort()
	switch {
	case r == nil:
		l.stats.NoBackend.Add(1)
		sys.Reset(fd)
		return
	case !r.Allows(from.Addr()):
		l.stats.Denied.Add(1)
		sys.Reset(fd)
		return
	}
	if !r.Admit() {
		l.stats.Refused.Add(1)
		sys.Reset(fd)
		return
	}
	if n := l.engine.sessions.Add(1); n > l.engine.budget.clients.Load() {
		l.engine.sessions.Add(-1)
		r.State.Release()
		l.noteRefused()
		sys.Reset(fd)
		return
	}
	s := l.sessions.get()
	l.current = s
	s.phase = connecting
	s.side[client] = side{fd: fd, f: nodelay} // inherited from the listener
	s.ln, s.route = ln, r
	s.born, s.moved = l.now, l.now
	l.dial(s, from)
}

// lookup is ln's route in the present table, or the last one it had.
func (l *loop) lookup(ln *listener) *route.Listener {
	t := l.engine.table.Load()
	if t.Generation != ln.looked {
		ln.looked = t.Generation
		if r := t.Lookup(ln.addr); r != nil {
			ln.route, ln.generation = r, t.Generation
		}
	}
	return ln.route
}
