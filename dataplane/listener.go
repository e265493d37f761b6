package dataplane

import (
	"math/rand/v2"
	"net/netip"
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
	// out. Clients stay in the kernel's queue meanwhile.
	acceptPause = 100 // ms

	// drainJitter spreads the resets at the end of a drain, so that not all
	// clients come back at once: up to this share of the drain time.
	drainJitter = 0.1

	// noDrain is the drain time at the end of dill, where Shutdown decides.
	noDrain = time.Duration(-1)
)

// listener is one loop's SO_REUSEPORT socket of a served address.
type listener struct {
	addr  netip.AddrPort
	fd    int32 // owned; -1 once closed
	index int32
	gen   uint32
	pause timer

	// What the table said about addr when it was last looked up. It outlives
	// the table's entry: connections that queued before the port went away are
	// still served by it.
	route      *route.Listener
	generation uint64
}

func (ln *listener) key() sys.Key { return sys.Key{ID: keyListener - ln.index, Gen: ln.gen} }

// listen takes over fd, a listening socket of addr.
func (l *loop) listen(addr netip.AddrPort, fd int32) {
	index := int32(len(l.listeners))
	if n := len(l.vacant); n > 0 {
		index, l.vacant = l.vacant[n-1], l.vacant[:n-1]
	} else {
		l.listeners = append(l.listeners, nil)
	}
	l.opened++
	ln := &listener{addr: addr, fd: fd, index: index, gen: l.opened}
	ln.pause.key = ln.key().ID
	l.listeners[index] = ln
	l.byAddr[addr] = ln
	if e := sys.EpollAdd(l.set, fd, sys.In, ln.key()); e != 0 {
		l.rest(ln, e) // out of memory or watches; resume tries again
	}
}

// unlisten serves what is queued on the sockets of addrs, closes them, and
// gives their sessions time to finish: the drain time of their route in t, the
// table that still had them, else the one given, where 0 is for ever. noDrain
// leaves them alone, whatever the route says.
func (l *loop) unlisten(addrs []netip.AddrPort, t *route.Table, drain time.Duration) {
	times := make(map[netip.AddrPort]time.Duration, len(addrs))
	for _, addr := range addrs {
		ln := l.byAddr[addr]
		if ln == nil {
			continue
		}
		times[addr] = drain
		if r := t.Lookup(addr); r != nil {
			ln.route = r
			if r.DrainTimeout > 0 {
				times[addr] = r.DrainTimeout
			}
		}
		l.close(ln)
	}
	if drain == noDrain {
		return
	}
	l.each(func(s *session) {
		// Those of an earlier opening too: their time counts anew.
		if d := times[s.ln.addr]; d > 0 {
			l.drain(s, d)
		}
	})
}

// close serves what is queued on ln's socket and closes it.
func (l *loop) close(ln *listener) {
	l.wheel.disarm(&ln.pause)
	sys.EpollDel(l.set, ln.fd)
	// The kernel resets what is still queued on close. Whoever connects this
	// very moment may be reset; the bound keeps a flood from holding us here.
	for range 1 << 16 {
		fd, e := sys.Accept(ln.fd, &l.sa)
		if e == sys.EAGAIN || (e != 0 && !transient(e)) {
			break
		}
		if e == 0 {
			l.contain(func() { l.admit(ln, fd) })
		}
	}
	sys.Close(ln.fd)
	ln.fd = -1
	l.listeners[ln.index] = nil
	l.vacant = append(l.vacant, ln.index)
	delete(l.byAddr, ln.addr)
}

// drain gives s that long before it is reset, unless its route comes back.
func (l *loop) drain(s *session, d time.Duration) {
	d += time.Duration(rand.Float64() * drainJitter * float64(d))
	s.drainAt = l.now + max(1, int64(d/time.Millisecond))
	l.wheel.armBefore(&s.timer, s.drainAt)
}

// drainLeavers starts the drain of sessions whose backend was in old and is
// not in t, behind a listener that limits how long they may stay.
func (l *loop) drainLeavers(old, t *route.Table) {
	l.each(func(s *session) {
		if s.backend == nil || old.Backend(s.ln.addr, s.backend) == nil {
			return
		}
		r := t.Lookup(s.ln.addr)
		if r != nil && r.DrainTimeout > 0 && r.Backend(s.backend) == nil {
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
		default:
			// Out of descriptors or memory, or something that would repeat at
			// once on a level-triggered socket.
			l.rest(ln, e)
			return
		}
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
		l.reserve, e = sys.Dup(l.set)
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
	if n := l.engine.sessions.Add(1); l.cfg.MaxConnections > 0 && n > int64(l.cfg.MaxConnections) {
		l.engine.sessions.Add(-1)
		r.State.Release()
		l.stats.Refused.Add(1)
		if l.now >= l.limitAt { // a report allocates, and this may be a flood
			l.limitAt = l.now + ms(reportEvery)
			l.engine.report(limitReached{limit: l.cfg.MaxConnections})
		}
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
	if ln.route == nil || t.Generation != ln.generation {
		ln.generation = t.Generation
		if r := t.Lookup(ln.addr); r != nil {
			ln.route = r
		}
	}
	return ln.route
}
