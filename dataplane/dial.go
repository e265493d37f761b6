package dataplane

import (
	"net/netip"
	"time"

	"dill/dataplane/internal/sys"
	"dill/dataplane/route"
)

// sessionEvents is what both sockets of a session are watched for.
const sessionEvents = sys.In | sys.Pri | sys.Out | sys.RdHup | sys.Edge

// dialPause is how long a dial waits for a descriptor: less than a listener
// does, so that what comes free goes to clients that were accepted first.
const dialPause = 10 // ms

// dialing is what a session needs only until it has a backend. Loops reuse
// them, so that an idle session does not carry one.
type dialing struct {
	from     netip.AddrPort // the client
	tried    route.Tried
	tries    int
	giveUpAt int64 // all attempts, ms
	failAt   int64 // this attempt, ms
	socks    socksTalk
	next     *dialing
}

// dial starts to connect s, a new session of the client from.
func (l *loop) dial(s *session, from netip.AddrPort) {
	d := l.dials
	if d == nil {
		d = new(dialing)
	} else {
		l.dials = d.next
	}
	*d = dialing{from: from, giveUpAt: l.now + ms(l.cfg.ConnectTotalTimeout)}
	s.dialing = d
	// Watched from now on: a client that resets must not hold a backend.
	c := &s.side[client]
	if e := sys.EpollAdd(l.set, c.fd, sessionEvents, s.key(client)); e != 0 {
		l.scarce(s, e)
		return
	}
	l.dialNext(s)
}

// reroute brings s, which has no backend, up to the newest table, and reports
// whether its client may still be served. One whose listener is gone from the
// table keeps the last route it had.
func (l *loop) reroute(s *session) bool {
	d, r := s.dialing, l.lookup(s.ln)
	if r == s.route {
		return true
	}
	d.tried.Follow(s.route, r)
	r.State.Take(s.route.State)
	s.route = r
	if !r.Allows(d.from.Addr()) {
		l.stats.Denied.Add(1)
		l.abort(s)
		return false
	}
	return true
}

// dialNext tries backends of the newest table until an attempt is under way or
// none is left.
func (l *loop) dialNext(s *session) {
	d := s.dialing
	for d.tries < l.cfg.ConnectTries && l.now < d.giveUpAt {
		if !l.reroute(s) {
			return
		}
		b := s.route.Pick(l.nowNs, d.from.Addr(), &d.tried)
		if b == nil {
			break
		}
		s.backend = b
		b.State.Acquire()
		if l.leadsBack(target(b)) {
			d.tries++
			l.turnBack(s)
			continue
		}
		fd, e := sys.Dial(target(b), &l.sa)
		if sys.Scarce(e) {
			fd, e = l.dialReserve(target(b), e)
		}
		if sys.Scarce(e) {
			l.dialScarce(s, e)
			return
		}
		d.tries++
		if e == sys.EADDRNOTAVAIL {
			// No source port left towards this backend: our fault, not its.
			l.stats.ConnectLocal.Add(1)
			s.route.ConnectAborted(b, &d.tried, l.nowNs)
			l.dropBackend(s)
			continue
		}
		if e == sys.EINPROGRESS {
			s.side[upstream] = side{fd: fd}
			e = sys.EpollAdd(l.set, fd, sessionEvents, s.key(upstream))
			if e == 0 {
				d.failAt = l.now + ms(l.connectTimeout(b))
				l.armDial(s, d.failAt)
				return
			}
			l.scarce(s, e)
			return
		}
		l.attemptFailed(s, e)
	}
	l.stats.NoBackend.Add(1)
	l.abort(s)
}

// armDial arms s for at, or for the end of all attempts or of a drain if that
// comes first.
func (l *loop) armDial(s *session, at int64) {
	at = min(at, s.dialing.giveUpAt)
	if s.drainAt != 0 {
		at = min(at, s.drainAt)
	}
	l.wheel.arm(&s.timer, at)
}

// dialScarce is for a dial that this machine has nothing left for: no backend is
// to blame, and the next one would fail the same way. The client is reset, if
// that is what happens to those who are too many; or it is ours to wait out.
func (l *loop) dialScarce(s *session, e sys.Errno) {
	if outOfFiles(e) && l.cfg.turnsAway() {
		l.noteRefused()
		l.abort(s)
		return
	}
	d := s.dialing
	s.route.ConnectAborted(s.backend, &d.tried, l.nowNs)
	l.dropBackend(s)
	d.tried.Reset()
	l.stats.AcceptPaused.Add(1)
	l.engine.report(acceptPaused{addr: s.ln.addr, cause: e})
	l.armDial(s, l.now+dialPause)
}

// dialReserve dials with the reserve, if there is one and it is not needed to
// reset clients; e is why there is need of it. The reserve is a socket already: a descriptor that is given up to get
// another can be lost to any other loop in between, and a client that was
// accepted would hold one for nothing.
func (l *loop) dialReserve(to netip.AddrPort, e sys.Errno) (int32, sys.Errno) {
	if l.reserve < 0 || l.cfg.turnsAway() {
		return -1, e
	}
	if !sys.SameFamily(l.reserveFamily, to.Addr()) {
		l.reserveFamily = to.Addr()
		l.spend()
		return sys.Dial(to, &l.sa)
	}
	fd := l.reserve
	l.reserve = -1
	return sys.Connect(fd, to, &l.sa)
}

// scarce ends s because the kernel will not watch one more descriptor.
func (l *loop) scarce(s *session, e sys.Errno) {
	l.stats.AcceptPaused.Add(1)
	l.engine.report(acceptPaused{addr: s.ln.addr, cause: e})
	l.abort(s)
}

// target is where a connection to b goes first.
func target(b *route.Backend) netip.AddrPort {
	if b.Socks != nil {
		return b.Socks.Addr
	}
	return b.Addr
}

func (l *loop) connectTimeout(b *route.Backend) time.Duration {
	if b.ConnectTimeout > 0 {
		return b.ConnectTimeout
	}
	return l.cfg.ConnectTimeout
}

// attemptFailed counts a failure against the backend and lets go of it.
func (l *loop) attemptFailed(s *session, cause sys.Errno) {
	l.stats.ConnectFailed.Add(1)
	if !l.engine.failing.Load() {
		l.engine.failing.Store(true)
	}
	b := s.backend
	if ejected, until := s.route.ConnectFailed(b, &s.dialing.tried, cause, l.nowNs, l.cfg.EjectAfter); ejected {
		l.stats.Ejections.Add(1)
		l.engine.report(backendEjected{listener: s.ln.addr, backend: b, failure: b.State.Failure(), out: time.Duration(until - l.nowNs)})
	}
	l.dropBackend(s)
}

// dropBackend closes the upstream side and gives the backend back.
func (l *loop) dropBackend(s *session) {
	if u := &s.side[upstream]; u.fd >= 0 {
		sys.Close(u.fd)
		*u = side{fd: -1}
	}
	s.backend.State.Release()
	s.backend = nil
	s.phase = connecting
}

// connectEvent handles an event while a connect is under way.
func (l *loop) connectEvent(s *session, i int, bits uint32) {
	if i == client {
		// FIN only says that the client has sent all (nc -N): it is passed on
		// after the connect. ERR and HUP are hints; ask without consuming.
		if bits&(sys.Hup|sys.Err) != 0 && sys.Dead(s.side[client].fd) {
			l.stats.ClientGone.Add(1)
			l.abort(s)
		}
		return
	}
	u := &s.side[upstream]
	switch {
	case bits&(sys.Err|sys.Hup) != 0:
		e := sys.TakeError(u.fd)
		if e == sys.ECONNRESET || e == sys.EPIPE {
			// Established, and reset since (a refusal is ECONNREFUSED). What it
			// sent before can still be read.
			u.set(failed)
			l.connected(s)
			return
		}
		l.attemptFailed(s, e)
		l.dialNext(s)
	case bits&sys.Out != 0:
		l.connected(s)
	}
}

// connected is called once the upstream socket is established.
func (l *loop) connected(s *session) {
	b, u := s.backend, &s.side[upstream]
	if l.selfConnected(target(b), u.fd) {
		// A dead local backend on a source port of ours: the connection meets
		// itself in the middle.
		l.stats.SelfConnect.Add(1)
		l.attemptFailed(s, sys.ECONNREFUSED)
		l.dialNext(s)
		return
	}
	if b.Socks != nil {
		l.greet(s)
		return
	}
	l.established(s)
}

// established turns a session with a backend into a relay, unless the backend
// left the table during the attempt: nothing was sent yet, so that another one
// can still take its place.
func (l *loop) established(s *session) {
	b := s.backend
	if r := l.lookup(s.ln); r != s.route && r.Backend(b) == nil {
		s.route.ConnectAborted(b, &s.dialing.tried, l.nowNs)
		s.dialing.tries-- // the attempt has not failed
		l.dropBackend(s)
		l.dialNext(s)
		return
	}
	l.stats.Connected.Add(1)
	if s.route.ConnectOK(b) {
		l.engine.report(backendBack{listener: s.ln.addr, backend: b})
	}
	if b.ProxyProtocol != 0 {
		to := sys.LocalAddr(s.side[client].fd, &l.sa)
		header := appendProxyHeader(l.scratch[:0], b.ProxyProtocol, s.dialing.from, to)
		s.flow[client].buf = l.buffers.get(header)
	}
	l.freeDialing(s)
	s.phase = relaying
	s.moved = l.now
	if l.cfg.UserTimeout > 0 {
		sys.UserTimeout(s.side[upstream].fd, l.cfg.UserTimeout)
	}
	if l.cfg.Splice == SpliceAlways {
		s.flow[client].splicing, s.flow[upstream].splicing = true, true
	}
	l.wheel.disarm(&s.timer)
	l.armRelay(s)
	l.relay(s)
}

func (l *loop) freeDialing(s *session) {
	if d := s.dialing; d != nil {
		s.dialing = nil
		*d = dialing{next: l.dials}
		l.dials = d
	}
}

// dialTimer fires when an attempt, the whole dial or a drain is over its time,
// or when a dial that waited for descriptors may try again.
func (l *loop) dialTimer(s *session) {
	if s.drainAt != 0 && l.now >= s.drainAt {
		if !l.stillRouted(s) {
			l.stats.Drained.Add(1)
			l.abort(s)
			return
		}
		s.drainAt = 0
	}
	switch d := s.dialing; {
	case s.backend == nil:
		l.dialNext(s)
	case l.now < min(d.failAt, d.giveUpAt): // the drain was called off or put off
		l.armDial(s, d.failAt)
	default:
		l.stats.ConnectTimeout.Add(1)
		l.attemptFailed(s, sys.ETIMEDOUT)
		l.dialNext(s)
	}
}

func ms(d time.Duration) int64 { return int64(d / time.Millisecond) }
