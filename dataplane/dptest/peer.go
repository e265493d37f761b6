package dptest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Peer is one end of a TCP connection, with the position in both its streams.
// Reading and writing may go on at the same time, from one goroutine each.
type Peer struct {
	conn    *net.TCPConn
	out, in Pattern
	sent    atomic.Int64
	got     atomic.Int64
}

// The two directions of a session that nobody paired.
const (
	toServer Pattern = 1
	toClient Pattern = 2
)

// Socket is how a peer's or a backend's sockets are made.
type Socket struct {
	RcvBuf, SndBuf int            // bytes as for setsockopt, 0 = the kernel's choice
	Local          netip.AddrPort // where a client connects from; the zero value: anywhere
}

func (s Socket) control(_, _ string, raw syscall.RawConn) error {
	var failed error
	err := raw.Control(func(fd uintptr) {
		if s.RcvBuf > 0 {
			failed = errors.Join(failed, syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, s.RcvBuf))
		}
		if s.SndBuf > 0 {
			failed = errors.Join(failed, syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF, s.SndBuf))
		}
	})
	return errors.Join(err, failed)
}

// Connect opens a connection to addr. The peer has a deadline [Patience] from
// now; the caller closes it.
func Connect(addr netip.AddrPort, s Socket) (*Peer, error) {
	dialer := net.Dialer{Timeout: Patience, Control: s.control, KeepAlive: -1}
	if s.Local.IsValid() {
		dialer.LocalAddr = net.TCPAddrFromAddrPort(s.Local)
	}
	conn, err := dialer.DialContext(context.Background(), "tcp", addr.String())
	if err != nil {
		return nil, err
	}
	return newPeer(conn.(*net.TCPConn), toServer, toClient), nil
}

// Dial connects to addr, or fails the test. The test's cleanup closes the peer.
func Dial(t testing.TB, addr netip.AddrPort) *Peer {
	t.Helper()
	return DialFrom(t, addr, Socket{})
}

// DialFrom is [Dial] with socket options.
func DialFrom(t testing.TB, addr netip.AddrPort, s Socket) *Peer {
	t.Helper()
	p, err := Connect(addr, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.conn.Close() })
	return p
}

func newPeer(conn *net.TCPConn, out, in Pattern) *Peer {
	p := &Peer{conn: conn, out: out, in: in}
	p.Extend(Patience)
	return p
}

// sessions numbers the paired sessions, so that no two have a pattern in common.
var sessions atomic.Uint64

// Pair tells both ends of one session the pattern of their streams. It must be
// called before either moved a byte. Unpaired peers use the same two patterns
// in every session: enough for order and length, blind to bytes that went to
// the wrong session.
func Pair(client, server *Peer) {
	seed := Pattern(sessions.Add(1) << 32)
	client.out, client.in = seed+toServer, seed+toClient
	server.out, server.in = client.in, client.out
}

// Mirror has the peer expect its own bytes back, as an [Echo] server sends them.
func (p *Peer) Mirror() { p.in = p.out }

// Conn is the connection itself, for what no op covers.
func (p *Peer) Conn() *net.TCPConn { return p.conn }

// Sent is how many pattern bytes the peer has written.
func (p *Peer) Sent() int64 { return p.sent.Load() }

// Got is how many pattern bytes the peer has read, all of them right.
func (p *Peer) Got() int64 { return p.got.Load() }

// Local is the peer's own address.
func (p *Peer) Local() netip.AddrPort { return p.conn.LocalAddr().(*net.TCPAddr).AddrPort() }

// Remote is the address at the other end of the peer's connection.
func (p *Peer) Remote() netip.AddrPort { return p.conn.RemoteAddr().(*net.TCPAddr).AddrPort() }

// Extend moves the peer's deadline to d from now.
func (p *Peer) Extend(d time.Duration) { _ = p.conn.SetDeadline(time.Now().Add(d)) }

// Close closes both directions, as close(2) does.
func (p *Peer) Close() error { return p.conn.Close() }

// Reset sends RST and throws away what was not yet sent (SO_LINGER 0).
func (p *Peer) Reset() error {
	return errors.Join(p.conn.SetLinger(0), p.conn.Close())
}

// write sends the next n pattern bytes, in writes of at most chunk bytes.
func (p *Peer) write(n int64, chunk int) error {
	buf := make([]byte, min(n, int64(chunk)))
	for end := p.Sent() + n; p.Sent() < end; {
		b := buf[:min(end-p.Sent(), int64(len(buf)))]
		p.out.Fill(b, p.Sent())
		m, err := p.conn.Write(b)
		p.sent.Add(int64(m))
		if err != nil {
			return fmt.Errorf("after %d bytes: %w", p.Sent(), err)
		}
	}
	return nil
}

// read takes and checks up to len(buf) bytes, as one read(2) returns them.
func (p *Peer) read(buf []byte) (int, error) {
	n, err := p.conn.Read(buf)
	if i := p.in.Mismatch(buf[:n], p.Got()); i >= 0 {
		at := p.Got() + int64(i)
		return n, fmt.Errorf("byte %d of the stream is %#02x, want %#02x", at, buf[i], p.in.at(at))
	}
	p.got.Add(int64(n))
	return n, err
}

// ReadSome makes one read of at most n bytes and checks what it returns; the
// error is package net's own.
func (p *Peer) ReadSome(n int) (int, error) { return p.read(make([]byte, n)) }

// readUntil reads and checks bytes until the position is end or an error comes.
func (p *Peer) readUntil(end int64, chunk int) error {
	buf := make([]byte, chunk)
	for p.Got() < end {
		if _, err := p.read(buf[:min(end-p.Got(), int64(chunk))]); err != nil {
			return fmt.Errorf("after %d bytes: %w", p.Got(), err)
		}
	}
	return nil
}

// IsReset reports whether err says that the other end reset the connection.
func IsReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// IsTimeout reports whether err is the peer's own deadline.
func IsTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// Rejected connects to addr and expects to be reset before a byte comes. The
// reset may be as fast as to meet connect(2) itself.
func Rejected(addr netip.AddrPort, s Socket) error {
	p, err := Connect(addr, s)
	if err != nil {
		if IsReset(err) {
			return nil
		}
		return err
	}
	defer p.Close()
	return p.Run(ReadToReset(0))
}
