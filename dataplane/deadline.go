package dataplane

import (
	"math"

	"dill/dataplane/internal/sys"
)

const (
	// keepAliveAge is the age at which the upstream leg gets TCP keepalive;
	// short sessions are spared the calls. ms
	keepAliveAge = 10_000

	never = math.MaxInt64 // a deadline that does not exist
)

// relayTimer does what is due of all the things a session waits for.
func (l *loop) relayTimer(s *session) {
	if l.now >= min(l.idleAt(s), l.halfCloseAt(s)) {
		l.askPeers(s)
	}
	switch {
	case s.drainAt != 0 && l.now >= s.drainAt && !l.stillRouted(s):
		l.stats.Drained.Add(1)
		l.abort(s)
		return
	case l.now >= l.idleAt(s):
		l.stats.IdleTimeout.Add(1)
		l.abort(s)
		return
	case l.now >= l.halfCloseAt(s):
		l.stats.HalfTimeout.Add(1)
		l.abort(s)
		return
	}
	if s.drainAt != 0 && l.now >= s.drainAt {
		s.drainAt = 0 // its route came back
	}
	if l.now >= l.keepAliveAt(s) {
		s.keepalive = true
		sys.KeepAlive(s.side[upstream].fd, l.cfg.KeepAlive)
	}
	l.armRelay(s)
	if s.resetAt != 0 {
		l.relay(s)
	}
}

// armRelay arms s for the earliest thing it waits for. All of them are what
// relayTimer acts on: a deadline that stays in the past would fire with every
// tick.
func (l *loop) armRelay(s *session) {
	at := min(l.idleAt(s), l.halfCloseAt(s), l.keepAliveAt(s))
	if s.drainAt != 0 {
		at = min(at, s.drainAt)
	}
	if at < never {
		l.wheel.armBefore(&s.timer, at)
	}
}

// idleAt is when s has been idle for too long, by its own limit or the general
// one.
func (l *loop) idleAt(s *session) int64 {
	limit := s.route.IdleTimeout
	if limit == 0 {
		limit = l.cfg.IdleTimeout
	}
	if limit <= 0 {
		return never
	}
	return s.moved + ms(limit)
}

// halfCloseAt is when a half-closed session has been silent for too long. A
// pending reset has a limit of its own, see passReset.
func (l *loop) halfCloseAt(s *session) int64 {
	if l.cfg.HalfCloseTimeout <= 0 || s.resetAt != 0 || !s.halfClosed() {
		return never
	}
	return s.moved + ms(l.cfg.HalfCloseTimeout)
}

func (l *loop) keepAliveAt(s *session) int64 {
	if s.keepalive || l.cfg.KeepAlive <= 0 {
		return never
	}
	return s.born + keepAliveAge
}

// halfClosed reports whether a stream is over, or will be once a slow reader
// has taken what was sent before.
func (s *session) halfClosed() bool {
	return (s.side[client].f|s.side[upstream].f)&(eof|hinted) != 0
}

// askPeers counts as movement what the peers took of what was written before:
// megabytes wait in a socket's queue, and a slow reader lives on them for longer
// than a timeout. It costs two calls, so it is for a deadline that is due.
func (l *loop) askPeers(s *session) {
	acked, age := uint32(0), int64(never)
	for i := range s.side {
		n, ms := sys.Acked(s.side[i].fd)
		acked += n
		age = min(age, ms)
	}
	if acked != s.acked {
		s.acked = acked
		s.moved = max(s.moved, l.now-age)
	}
}
