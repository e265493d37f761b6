package load

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"dill/bench/internal/sock"
	"dill/bench/wire"
)

var selfPID = os.Getpid()

// chunk is how much of a stream one write offers.
const chunk = 256 << 10

// stream is one connection of a bulk run.
type stream struct {
	fd    int
	check wire.Checker // Bytes counts in both directions
}

func runBulk(ctx context.Context, spec Spec) (*Result, error) {
	poll, err := sock.NewPoller()
	if err != nil {
		return nil, err
	}
	defer poll.Close()
	mode, events := wire.Upload, uint32(sock.Out)
	if spec.Download {
		mode, events = wire.Download, sock.In
	}
	streams := make([]*stream, spec.Conns)
	for i := range streams {
		s, err := openStream(spec, mode, i)
		if err != nil {
			return nil, err
		}
		defer unix.Close(s.fd)
		streams[i] = s
		if err := poll.Add(s.fd, events, int32(i)); err != nil {
			return nil, err
		}
	}

	w := newWindow(spec)
	scratch := make([]byte, wire.SampleSize)
	for w.tick(time.Now()) {
		events, err := poll.Wait(spec.Patience)
		if err != nil {
			return nil, err
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if len(events) == 0 {
			return nil, fmt.Errorf("no stream moved for %v", spec.Patience)
		}
		for _, ev := range events {
			s := streams[ev.Fd]
			var n int
			if spec.Download {
				n, err = s.take(scratch)
			} else {
				n, err = s.give()
			}
			if err != nil {
				return nil, fmt.Errorf("stream %d after %d bytes: %w", ev.Fd, s.check.Bytes, err)
			}
			w.bytes += uint64(n)
		}
	}
	if w.err != nil {
		return nil, w.err
	}
	return w.result, endStreams(streams, spec)
}

func openStream(spec Spec, mode wire.Mode, i int) (*stream, error) {
	fd, err := sock.Dial(spec.Targets[i%len(spec.Targets)], spec.Patience)
	if err != nil {
		return nil, err
	}
	s := &stream{fd: fd, check: wire.Checker{Stream: uint64(i)}}
	hello := wire.Hello{Mode: mode, Stream: uint64(i)}.AppendTo(nil)
	if err := sock.WriteAll(fd, hello, spec.Patience); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return s, nil
}

// give writes a piece of the stream.
func (s *stream) give() (int, error) {
	n, err := unix.Write(s.fd, wire.Pattern(s.check.Stream, s.check.Bytes, chunk))
	if err == unix.EAGAIN {
		return 0, nil
	}
	if err != nil {
		return 0, os.NewSyscallError("write", err)
	}
	s.check.Skip(n)
	return n, nil
}

// take reads a piece of the stream: a sample to compare, or what there is to
// throw away.
func (s *stream) take(scratch []byte) (n int, err error) {
	if s.check.WantsSample() {
		if n, err = unix.Read(s.fd, scratch); n > 0 {
			s.check.Check(scratch[:n])
		}
	} else if n, err = sock.Discard(s.fd, wire.MaxChunk); n > 0 {
		s.check.Skip(n)
	}
	switch {
	case err == unix.EAGAIN:
		return 0, nil
	case err != nil:
		return 0, os.NewSyscallError("read", err)
	case n == 0:
		return 0, fmt.Errorf("the stream ended before it was told to")
	case s.check.Bad > 0:
		return 0, fmt.Errorf("%d wrong pieces", s.check.Bad)
	}
	return n, nil
}

// endStreams has every stream end in order, and compares what both sides
// counted.
func endStreams(streams []*stream, spec Spec) error {
	for _, s := range streams {
		var err error
		if spec.Download {
			err = sock.WriteAll(s.fd, []byte{1}, spec.Patience)
		} else {
			err = os.NewSyscallError("shutdown", unix.Shutdown(s.fd, unix.SHUT_WR))
		}
		if err != nil {
			return err
		}
	}
	for i, s := range streams {
		rest, err := s.readToEnd(spec.Patience)
		if err != nil {
			return fmt.Errorf("stream %d, waiting for its end: %w", i, err)
		}
		t, err := wire.ParseTrailer(rest)
		if err != nil {
			return fmt.Errorf("stream %d: %w", i, err)
		}
		if t.Bad > 0 || s.check.Bad > 0 || t.Bytes != s.check.Bytes {
			return fmt.Errorf("stream %d: the sink counted %d bytes and %d wrong pieces, the client %d and %d",
				i, t.Bytes, t.Bad, s.check.Bytes, s.check.Bad)
		}
	}
	return nil
}

// readToEnd reads until the other side finishes. All but the last bytes, which
// must be the trailer, belong to the stream and are compared.
func (s *stream) readToEnd(patience time.Duration) (trailer []byte, err error) {
	buf := make([]byte, 0, wire.SampleSize+wire.TrailerSize)
	for {
		if over := len(buf) - wire.TrailerSize; over > 0 {
			s.check.Check(buf[:over])
			buf = append(buf[:0], buf[over:]...)
		}
		n, err := sock.ReadSome(s.fd, buf[len(buf):cap(buf)], patience)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return buf, nil
		}
		buf = buf[:len(buf)+n]
	}
}
