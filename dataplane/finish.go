package dataplane

import "dill/dataplane/internal/sys"

// A pending reset looks again after resetFirst ms, doubling to resetMost.
const (
	resetFirst = 2
	resetMost  = 100
)

// settle passes on the ends of the streams: FIN as FIN once everything before
// it was delivered, RST as RST likewise. It ends the session when both are
// through.
func (l *loop) settle(s *session) {
	c, u := &s.side[client], &s.side[upstream]
	switch {
	case c.has(failed) && u.has(failed):
		l.abort(s)
	case c.has(failed):
		if l.passReset(s, client) {
			l.stats.ResetByClient.Add(1)
			l.abort(s)
		}
	case u.has(failed):
		if l.passReset(s, upstream) {
			l.stats.ResetByBackend.Add(1)
			l.abort(s)
		}
	case c.has(eof) && u.has(eof) && !s.flow[client].pending() && !s.flow[upstream].pending():
		// Nothing is unread, so a plain close delivers what is queued, and its
		// FIN saves the shutdown.
		l.stats.Finished.Add(1)
		l.finish(s)
	default:
		l.passFin(s, client)
		l.passFin(s, upstream)
	}
}

// passFin half-closes the far side once from's stream is over and delivered.
func (l *loop) passFin(s *session, from int) {
	src, dst := &s.side[from], &s.side[1-from]
	if !src.has(eof) || dst.has(shut) || s.flow[from].pending() {
		return
	}
	if e := sys.ShutdownWrite(dst.fd); e != 0 {
		dst.refused(e)
		l.later(s) // to see to the failure
		return
	}
	dst.set(shut)
	s.moved = l.now
	if t := l.cfg.HalfCloseTimeout; t > 0 {
		l.wheel.armBefore(&s.timer, s.moved+ms(t))
	}
}

// passReset reports whether the reset of the dead side may be passed on now:
// everything it had sent is delivered, which means acknowledged. A reset drops
// what is queued, so it has to wait while the live side takes something at least
// once in a half-close timeout; the timer looks again.
func (l *loop) passReset(s *session, dead int) bool {
	d, live := &s.side[dead], &s.side[1-dead]
	if s.resetAt == 0 {
		s.resetAt = max(1, l.now)
		s.tries = 0
	}
	if d.has(eof) && !s.flow[dead].pending() && sys.Unsent(live.fd) == 0 {
		return true
	}
	limit := l.cfg.HalfCloseTimeout
	if limit == 0 {
		limit = defaultHalfCloseTimeout
	}
	overdue := func() bool { return l.now >= max(s.resetAt, s.moved)+ms(limit) }
	if overdue() {
		l.askPeers(s)
	}
	if overdue() {
		l.stats.ResetUndeliver.Add(1)
		return true
	}
	wait := int64(resetMost)
	if s.tries < 6 {
		wait = min(resetMost, int64(resetFirst)<<s.tries)
		s.tries++
	}
	l.wheel.armBefore(&s.timer, l.now+wait)
	return false
}

// confirmReset looks whether a side that is gone and whose stream ended was
// reset: after a FIN, recv returns 0 before it looks at the error. Taking
// SO_ERROR is right here, there is nothing left to read that it could spoil.
// And HUP means that both directions are shut, without a FIN of ours a reset.
func (d *side) confirmReset() {
	if sys.TakeError(d.fd) != 0 || !d.has(shut) {
		d.set(failed)
	}
}

// stillRouted reports whether a draining session's route has come back, or may do
// so: what it was waited for to tell is drained anew.
func (l *loop) stillRouted(s *session) bool {
	r := l.engine.table.Load().Lookup(s.ln.addr)
	return r != nil && (r.DrainTimeout <= 0 || r.Waiting || s.backend == nil || r.Backend(s.backend) != nil)
}

// finish closes both sides; what is queued is still delivered.
func (l *loop) finish(s *session) {
	for i := range s.side {
		sys.Close(s.side[i].take())
	}
	l.free(s)
}

// abort resets both sides: a session that dill ends must not look complete.
func (l *loop) abort(s *session) {
	if s.backend != nil && s.phase != relaying {
		s.route.ConnectAborted(s.backend, &s.dialing.tried, l.nowNs) // it says nothing about the backend
	}
	for i := range s.side {
		if fd := s.side[i].take(); fd >= 0 {
			sys.Reset(fd)
		}
	}
	l.free(s)
}

// free gives back all that s holds; both descriptors are closed already.
func (l *loop) free(s *session) {
	l.wheel.disarm(&s.timer)
	l.dropPending(&s.flow[client])
	l.dropPending(&s.flow[upstream])
	l.freeDialing(s)
	if s.backend != nil {
		s.backend.State.Release()
	}
	s.route.State.Release()
	l.engine.sessions.Add(-1)
	l.sessions.put(s)
}
