package sink

import (
	"golang.org/x/sys/unix"

	"dill/bench/internal/sock"
	"dill/bench/wire"
)

// chunk is how much of a stream one write offers.
const chunk = 256 << 10

// conn is one connection. Its events are edge-triggered while messages are
// exchanged, where that saves calls, and level-triggered while it streams, where
// that shares the sink among the streams.
type conn struct {
	fd    int
	hello wire.Hello
	known bool // hello has arrived

	buf  []byte // hello, then the message: got of it have arrived
	got  int
	out  []byte // what of an answer or a trailer is still to be sent
	last bool   // close when out is sent

	check wire.Checker // of what arrives
	sent  uint64       // of a stream
}

// serve does what can be done without waiting, and reports whether the
// connection goes on.
func (c *conn) serve(s *Sink) bool {
	if !c.known {
		if goOn := c.readHello(s); !goOn || !c.known {
			return goOn
		}
	}
	switch c.hello.Mode {
	case wire.Echo, wire.OneShot:
		return c.answer(s)
	case wire.Upload:
		return c.swallow(s)
	case wire.Download:
		return c.send(s)
	case wire.Exchange:
		return c.exchange(s)
	}
	return false
}

func (c *conn) readHello(s *Sink) bool {
	if cap(c.buf) < wire.HelloSize {
		c.buf = make([]byte, 512)
	}
	c.buf = c.buf[:wire.HelloSize]
	n, err := unix.Read(c.fd, c.buf[c.got:])
	if err == unix.EAGAIN {
		return true
	}
	if err != nil || n == 0 {
		return false
	}
	if c.got += n; c.got < wire.HelloSize {
		return c.readHello(s)
	}
	hello, err := wire.ParseHello(c.buf)
	if err != nil {
		return false // the client will miss its answer, and say so
	}
	c.hello, c.known, c.got = hello, true, 0
	c.check.Stream = hello.Stream
	switch hello.Mode {
	case wire.Echo, wire.OneShot:
		if cap(c.buf) < int(hello.Size) {
			c.buf = make([]byte, hello.Size)
		}
		c.buf = c.buf[:hello.Size]
	case wire.Upload:
		err = s.poll.Modify(c.fd, sock.In, int32(c.fd)+connID)
	case wire.Download:
		err = s.poll.Modify(c.fd, sock.In|sock.Out, int32(c.fd)+connID)
	}
	return err == nil
}

// answer reads requests and answers each when it is complete. The client does
// not send the next one before it has its answer, so a complete request leaves
// nothing to read, and the next one makes an edge of its own.
func (c *conn) answer(s *Sink) bool {
	if len(c.out) == 0 {
		for c.got < len(c.buf) {
			n, err := unix.Read(c.fd, c.buf[c.got:])
			if err == unix.EAGAIN {
				return true
			}
			if err != nil || n == 0 {
				return false
			}
			short := n < len(c.buf)-c.got
			if c.got += n; short {
				return true // drained
			}
		}
		c.got = 0
		wire.Answer(c.buf)
		if s.Lie != nil {
			s.Lie(c.buf)
		}
		c.out = c.buf
	}
	return c.flush() && (len(c.out) > 0 || c.hello.Mode == wire.Echo)
}

// flush sends c.out as far as it goes.
func (c *conn) flush() bool {
	for len(c.out) > 0 {
		n, err := unix.Write(c.fd, c.out)
		if err == unix.EAGAIN {
			return true
		}
		if err != nil {
			return false
		}
		c.out = c.out[n:]
	}
	return true
}

// swallow takes a stream in, and answers its end with the trailer.
func (c *conn) swallow(s *Sink) bool {
	if c.last {
		return c.flush() && len(c.out) > 0
	}
	n, err := c.take(s, len(s.scratch))
	if err == unix.EAGAIN {
		return true
	}
	if err != nil {
		return false
	}
	if n > 0 {
		return true
	}
	c.finish(s, wire.Trailer{Bytes: c.check.Bytes, Bad: c.check.Bad})
	return c.flush() && len(c.out) > 0
}

// take reads a piece of a stream, at most limit bytes if it is a sample.
func (c *conn) take(s *Sink, limit int) (int, error) {
	if !c.check.WantsSample() {
		n, err := sock.Discard(c.fd, wire.MaxChunk)
		c.check.Skip(n)
		return n, err
	}
	n, err := unix.Read(c.fd, s.scratch[:limit])
	if n > 0 {
		c.check.Check(s.scratch[:n])
	}
	return max(n, 0), err
}

// send streams until the client says stop, and ends with the trailer.
func (c *conn) send(s *Sink) bool {
	if c.last {
		return c.flush() && len(c.out) > 0
	}
	var stop [1]byte
	if n, err := unix.Read(c.fd, stop[:]); err == nil {
		if n == 0 {
			return false // gave up
		}
		c.finish(s, wire.Trailer{Bytes: c.sent})
		return c.flush() && len(c.out) > 0
	} else if err != unix.EAGAIN {
		return false
	}
	b := wire.Pattern(c.hello.Stream, c.sent, chunk)
	if s.Lie != nil {
		b = append([]byte(nil), b...)
		s.Lie(b)
	}
	n, err := unix.Write(c.fd, b)
	if err == unix.EAGAIN {
		return true
	}
	if err != nil {
		return false
	}
	c.sent += uint64(n)
	return true
}

// finish makes t the last that is sent.
func (c *conn) finish(s *Sink, t wire.Trailer) {
	c.out, c.last = t.AppendTo(c.buf[:0]), true
	if s.Lie != nil {
		s.Lie(c.out)
	}
	s.poll.Modify(c.fd, sock.Out, int32(c.fd)+connID)
}

// exchange takes Up bytes, sends Down bytes, and then waits for the client to
// close. If what arrived was wrong it closes at once, so that the client misses
// its bytes.
func (c *conn) exchange(s *Sink) bool {
	for c.check.Bytes < c.hello.Up {
		left := c.hello.Up - c.check.Bytes
		n, err := unix.Read(c.fd, s.scratch[:min(uint64(len(s.scratch)), left)])
		if err == unix.EAGAIN {
			return true
		}
		if err != nil || n == 0 {
			return false
		}
		if c.check.Check(s.scratch[:n]); c.check.Bad > 0 {
			return false
		}
	}
	for c.sent < c.hello.Down {
		n, err := unix.Write(c.fd, wire.Pattern(c.hello.Stream, c.sent, int(min(chunk, c.hello.Down-c.sent))))
		if err == unix.EAGAIN {
			return true
		}
		if err != nil {
			return false
		}
		c.sent += uint64(n)
	}
	var end [1]byte
	_, err := unix.Read(c.fd, end[:])
	return err == unix.EAGAIN
}
