// Package sink is the backend of the benchmarks: it answers messages, swallows
// streams and sends them, as package wire says, and checks what arrives.
//
// It is one goroutine with an epoll set. Bulk data is counted and thrown away
// inside the kernel but for a sample, so that a byte costs the sink a fraction
// of what it costs any proxy in front of it. Each run says how much of that is
// true (result.Row.Headroom).
package sink

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"dill/bench/internal/sock"
	"dill/bench/wire"
)

// Sink serves at one or more addresses until it is stopped.
type Sink struct {
	poll      *sock.Poller
	listeners []int // their id in poll is their index
	addrs     []netip.AddrPort
	conns     []*conn // by fd; id in poll is fd + connID
	spare     []*conn
	scratch   []byte
	stop      atomic.Bool

	// Lie, when set, changes what the sink sends: it is how tests see that
	// clients notice. It gets the bytes about to be sent and may change them.
	Lie func(b []byte)
}

// connID sets the ids of connections apart from those of listeners.
const connID = 1 << 16

// New listens at n free ports of 127.0.0.1.
func New(n int) (*Sink, error) {
	poll, err := sock.NewPoller()
	if err != nil {
		return nil, err
	}
	s := &Sink{poll: poll, scratch: make([]byte, wire.SampleSize)}
	for id := range n {
		fd, err := sock.Listen(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0))
		if err != nil {
			s.release()
			return nil, err
		}
		s.listeners = append(s.listeners, fd)
		addr, err := sock.Local(fd)
		if err == nil {
			err = poll.Add(fd, sock.In, int32(id))
		}
		if err != nil {
			s.release()
			return nil, err
		}
		s.addrs = append(s.addrs, addr)
	}
	return s, nil
}

// Addrs are the addresses it listens at.
func (s *Sink) Addrs() []netip.AddrPort { return s.addrs }

// Stop makes Serve return within a moment. It may be called from any goroutine.
func (s *Sink) Stop() { s.stop.Store(true) }

// Serve runs the sink in the calling goroutine until Stop, and then releases
// everything.
func (s *Sink) Serve() error {
	defer s.release()
	for !s.stop.Load() {
		events, err := s.poll.Wait(100 * time.Millisecond)
		if err != nil {
			return err
		}
		for _, ev := range events {
			if ev.Fd < connID {
				if err := s.accept(s.listeners[ev.Fd]); err != nil {
					return err
				}
				continue
			}
			if c := s.conns[ev.Fd-connID]; c != nil && !c.serve(s) {
				s.drop(c)
			}
		}
	}
	return nil
}

// accept takes all that is queued on a listener.
func (s *Sink) accept(listener int) error {
	for {
		fd, _, err := unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch err {
		case nil:
		case unix.EAGAIN:
			return nil
		case unix.ECONNABORTED, unix.EINTR:
			continue
		default:
			return fmt.Errorf("sink: accept: %w", err)
		}
		for fd >= len(s.conns) {
			s.conns = append(s.conns, nil)
		}
		c := s.get()
		c.fd = fd
		s.conns[fd] = c
		if err := s.poll.Add(fd, sock.Edge, int32(fd)+connID); err != nil {
			return err
		}
	}
}

func (s *Sink) get() *conn {
	if n := len(s.spare); n > 0 {
		c := s.spare[n-1]
		s.spare = s.spare[:n-1]
		return c
	}
	return new(conn)
}

// drop closes a connection and keeps its memory.
func (s *Sink) drop(c *conn) {
	unix.Close(c.fd)
	s.conns[c.fd] = nil
	*c = conn{buf: c.buf[:0]}
	if cap(c.buf) > 4096 { // the spare ones shall stay small
		c.buf = nil
	}
	s.spare = append(s.spare, c)
}

func (s *Sink) release() {
	for _, c := range s.conns {
		if c != nil {
			unix.Close(c.fd)
		}
	}
	for _, fd := range s.listeners {
		unix.Close(fd)
	}
	s.poll.Close()
}
