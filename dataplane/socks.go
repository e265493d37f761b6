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
		l.attemptFailed(s, sys.EPIPE)
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
		switch {
		case e != 0:
		case n <= 0:
			e = sys.ECONNRESET // it hung up
		default:
			if t.have += n; t.have == t.want {
				e = l.answer(s, t)
			}
		}
		if e != 0 {
			l.attemptFailed(s, e)
			l.dialNext(s)
			return
		}
	}
}

// socksReplies is what the proxy says of its own connect (RFC 1928, section 6).
var socksReplies = [...]sys.Errno{
	1: sys.ECONNABORTED, 2: sys.EACCES, 3: sys.ENETUNREACH, 4: sys.EHOSTUNREACH, 5: sys.ECONNREFUSED, 6: sys.ETIMEDOUT,
}

// answer takes a complete message. It returns why the connect has failed: the
// proxy refused, or it talks nonsense, EPROTO.
func (l *loop) answer(s *session, t *socksTalk) sys.Errno {
	b := s.backend
	switch t.step {
	case socksMethod:
		switch {
		case t.buf[0] != socksVersion:
			return sys.EPROTO
		case t.buf[1] == socksNoAuth:
			l.askConnect(s, t)
		case t.buf[1] == socksPassword && b.Socks.User != "":
			t.expect(socksAuth, 2)
			l.say(s, appendSocksAuth(l.scratch[:0], b.Socks))
		default:
			return sys.EACCES
		}
	case socksAuth:
		if t.buf[1] != 0 {
			return sys.EACCES
		}
		l.askConnect(s, t)
	case socksHead:
		return t.head()
	default: // socksRest: the address it bound is of no use to us
		l.established(s)
	}
	return 0
}

// head takes the first bytes of the reply to the connect.
func (t *socksTalk) head() sys.Errno {
	switch reply := int(t.buf[1]); {
	case t.buf[0] != socksVersion || reply >= len(socksReplies):
		return sys.EPROTO
	case reply != 0:
		return socksReplies[reply]
	}
	switch t.buf[3] {
	case socksIPv4:
		t.expect(socksRest, 4-1+2)
	case socksIPv6:
		t.expect(socksRest, 16-1+2)
	case socksDomain:
		t.expect(socksRest, int(t.buf[4])+2)
	default:
		return sys.EPROTO
	}
	return 0
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
