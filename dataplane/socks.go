package dataplane

import (
	"encoding/binary"

	"dill/dataplane/internal/sys"
	"dill/dataplane/route"
)

// The SOCKS5 client side (RFC 1928, RFC 1929), driven by events like all else.
//
//	greeting ─► method ─┬─► auth ─► connect ─► head ─► rest ─► established
//	                    └──────────────┘ (no password asked)
type socksStep uint8

const (
	socksMethod socksStep = iota // waiting for the chosen method
	socksAuth                    // … the answer to user and password
	socksHead                    // … the first 5 bytes of the connect reply
	socksRest                    // … what is left of it, by its address type
)

const (
	socksVersion    = 5
	socksNoAuth     = 0
	socksPassword   = 2
	socksConnectCmd = 1
	socksIPv4       = 1
	socksDomain     = 3
	socksIPv6       = 4
	socksHeadLen    = 5 // version, reply, reserved, type, first address byte
)

// socksTalk is where a handshake stands. No more is ever read than the reply
// has: what follows it belongs to the client.
type socksTalk struct {
	step socksStep
	want int
	have int
	buf  [socksHeadLen + 255 + 2]byte
}

func (t *socksTalk) expect(step socksStep, n int) { t.step, t.want, t.have = step, n, 0 }

// greet starts the handshake on an upstream socket that is connected.
func (l *loop) greet(s *session) {
	s.phase = handshaking
	p := l.scratch[:0]
	if s.backend.Socks.User != "" {
		p = append(p, socksVersion, 2, socksNoAuth, socksPassword)
	} else {
		p = append(p, socksVersion, 1, socksNoAuth)
	}
	s.dialing.socks.expect(socksMethod, 2)
	l.say(s, p)
}

// say writes one handshake message. They are far smaller than an empty socket
// buffer: anything but a full write means that the proxy is gone.
func (l *loop) say(s *session, p []byte) {
	u := &s.side[upstream]
	if l.send(u, p) < len(p) {
		l.attemptFailed(s)
		l.dialNext(s)
	}
}

// handshakeEvent handles an event during the handshake.
func (l *loop) handshakeEvent(s *session, i int, bits uint32) {
	if i == client {
		l.connectEvent(s, i, bits)
		return
	}
	u := &s.side[upstream]
	for s.phase == handshaking && u.has(readable) {
		t := &s.dialing.socks
		n, e := sys.Recv(u.fd, t.buf[t.have:t.want])
		if e == sys.EAGAIN {
			u.clear(readable)
			return
		}
		if n <= 0 || e != 0 {
			l.attemptFailed(s)
			l.dialNext(s)
			return
		}
		if t.have += n; t.have == t.want && !l.answer(s, t) {
			l.attemptFailed(s)
			l.dialNext(s)
			return
		}
	}
}

// answer takes a complete message; false means that the proxy refused or
// talks nonsense.
func (l *loop) answer(s *session, t *socksTalk) bool {
	b := s.backend
	switch t.step {
	case socksMethod:
		switch {
		case t.buf[0] != socksVersion:
			return false
		case t.buf[1] == socksNoAuth:
			l.askConnect(s, t)
			return true
		case t.buf[1] == socksPassword && b.Socks.User != "":
			t.expect(socksAuth, 2)
			l.say(s, appendSocksAuth(l.scratch[:0], b.Socks))
			return true
		}
		return false
	case socksAuth:
		if t.buf[1] != 0 {
			return false
		}
		l.askConnect(s, t)
		return true
	case socksHead:
		if t.buf[0] != socksVersion || t.buf[1] != 0 {
			return false
		}
		rest := 0
		switch t.buf[3] {
		case socksIPv4:
			rest = 4 - 1 + 2
		case socksIPv6:
			rest = 16 - 1 + 2
		case socksDomain:
			rest = int(t.buf[4]) + 2
		default:
			return false
		}
		t.expect(socksRest, rest)
		return true
	default: // socksRest: the address it bound is of no use to us
		l.established(s)
		return true
	}
}

func (l *loop) askConnect(s *session, t *socksTalk) {
	t.expect(socksHead, socksHeadLen)
	l.say(s, appendSocksConnect(l.scratch[:0], s.backend))
}

func appendSocksAuth(p []byte, k *route.Socks) []byte {
	p = append(p, 1, byte(len(k.User)))
	p = append(p, k.User...)
	p = append(p, byte(len(k.Password)))
	return append(p, k.Password...)
}

// appendSocksConnect asks for b's target: by its name where it has one, which
// is then the proxy's to look up.
func appendSocksConnect(p []byte, b *route.Backend) []byte {
	p = append(p, socksVersion, socksConnectCmd, 0)
	if b.Host != "" {
		p = append(append(p, socksDomain, byte(len(b.Host))), b.Host...)
	} else if a := b.Addr.Addr().Unmap(); a.Is4() {
		ip := a.As4()
		p = append(append(p, socksIPv4), ip[:]...)
	} else {
		ip := a.As16()
		p = append(append(p, socksIPv6), ip[:]...)
	}
	return binary.BigEndian.AppendUint16(p, b.Addr.Port())
}
