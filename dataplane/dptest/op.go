package dptest

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"sync"
	"testing"
	"time"
)

// Op is one step of a peer's script. Its name is its call, for test names and
// messages.
type Op struct {
	Name string
	Do   func(*Peer) error
}

// chunk is how much a peer moves in one system call unless told otherwise:
// large enough for a spliced direction to stay spliced.
const chunk = 128 << 10

func op(do func(*Peer) error, format string, args ...any) Op {
	return Op{Name: fmt.Sprintf(format, args...), Do: do}
}

// Write sends the next n bytes of the peer's pattern.
func Write(n int64) Op {
	return op(func(p *Peer) error { return p.write(n, chunk) }, "write %d", n)
}

// WriteChunks sends the next n bytes, size bytes in each call.
func WriteChunks(n int64, size int) Op {
	return op(func(p *Peer) error { return p.write(n, size) }, "write %d by %d", n, size)
}

// WriteUntilStalled writes until the other side has taken nothing for quiet,
// and fails if that needs more than limit bytes. [Peer.Sent] then says how many
// it were.
func WriteUntilStalled(limit int64, quiet time.Duration) Op {
	return op(func(p *Peer) error {
		var rest []byte
		buf := make([]byte, chunk)
		defer p.Extend(Patience)
		for {
			if p.Sent() > limit {
				return fmt.Errorf("wrote %d bytes and nothing held it up", p.Sent())
			}
			if len(rest) == 0 {
				rest = buf
				p.out.Fill(rest, p.Sent())
			}
			if err := p.conn.SetWriteDeadline(time.Now().Add(quiet)); err != nil {
				return err
			}
			n, err := p.conn.Write(rest)
			rest = rest[n:]
			p.sent.Add(int64(n))
			switch {
			case IsTimeout(err) && n == 0:
				return nil
			case err != nil && !IsTimeout(err):
				return fmt.Errorf("after %d bytes: %w", p.Sent(), err)
			}
		}
	}, "write until stalled")
}

// Read takes exactly the next n bytes and checks them.
func Read(n int64) Op {
	return op(func(p *Peer) error { return p.readUntil(p.Got()+n, chunk) }, "read %d", n)
}

// ReadChunks is Read with at most size bytes in each call.
func ReadChunks(n int64, size int) Op {
	return op(func(p *Peer) error { return p.readUntil(p.Got()+n, size) }, "read %d by %d", n, size)
}

// ReadToEOF takes all bytes up to a clean end of the stream, which must come at
// position total.
func ReadToEOF(total int64) Op {
	return op(func(p *Peer) error {
		err := p.readUntil(math.MaxInt64, chunk)
		switch {
		case !errors.Is(err, io.EOF):
			return err
		case p.Got() != total:
			return fmt.Errorf("clean end after %d bytes, want %d", p.Got(), total)
		}
		return nil
	}, "read to EOF at %d", total)
}

// ReadToReset takes all bytes up to a reset, which must come at position total
// exactly; a total below 0 means anywhere. A clean end is an error.
func ReadToReset(total int64) Op {
	return op(func(p *Peer) error {
		err := p.readUntil(math.MaxInt64, chunk)
		switch {
		case errors.Is(err, io.EOF):
			return fmt.Errorf("clean end after %d bytes, want a reset", p.Got())
		case !IsReset(err):
			return err
		case total >= 0 && p.Got() != total:
			return fmt.Errorf("reset after %d bytes, want %d", p.Got(), total)
		}
		return nil
	}, "read to reset at %d", total)
}

// WriteToReset writes until a write fails because the other side reset.
func WriteToReset() Op {
	return op(func(p *Peer) error {
		if err := p.write(math.MaxInt64/2, chunk); !IsReset(err) {
			return err
		}
		return nil
	}, "write to reset")
}

// HalfClose ends the peer's writing: its FIN.
func HalfClose() Op {
	return op(func(p *Peer) error { return p.conn.CloseWrite() }, "half-close")
}

// Close closes the peer.
func Close() Op { return op((*Peer).Close, "close") }

// Reset resets the peer's connection.
func Reset() Op { return op((*Peer).Reset, "reset") }

// Fire makes e happen.
func Fire(e *Event) Op {
	return op(func(*Peer) error { e.Fire(); return nil }, "fire")
}

// Await does nothing, reads nothing above all, until e has happened.
func Await(e *Event) Op {
	return op(func(*Peer) error {
		if !e.Wait() {
			return errors.New("the event never came")
		}
		return nil
	}, "await")
}

// Both runs two scripts at once, one of which may read and one write.
func Both(a, b []Op) Op {
	return op(func(p *Peer) error {
		var wg sync.WaitGroup
		var errA error
		wg.Go(func() { errA = p.Run(a...) })
		errB := p.Run(b...)
		wg.Wait()
		return errors.Join(errA, errB)
	}, "(%s | %s)", Title(a), Title(b))
}

// Title names a script by its ops.
func Title(ops []Op) string {
	names := make([]string, len(ops))
	for i, o := range ops {
		names[i] = o.Name
	}
	return strings.Join(names, ", ")
}

// Run plays ops one after the other, to the first that fails.
func (p *Peer) Run(ops ...Op) error {
	for i, o := range ops {
		if err := o.Do(p); err != nil {
			return fmt.Errorf("op %d, %s: %w", i, o.Name, err)
		}
	}
	return nil
}

// Must is [Peer.Run] that fails the test; only for the test's own goroutine.
func (p *Peer) Must(t testing.TB, ops ...Op) {
	t.Helper()
	if err := p.Run(ops...); err != nil {
		t.Fatalf("%v ← %v: %v", p.Local(), p.Remote(), err)
	}
}

// Role is a peer and what it has to do.
type Role struct {
	Name string
	Peer *Peer
	Ops  []Op
}

// Play runs all roles at once and reports each that failed.
func Play(t testing.TB, roles ...Role) {
	t.Helper()
	errs := make([]error, len(roles))
	var wg sync.WaitGroup
	for i, r := range roles {
		wg.Go(func() { errs[i] = r.Peer.Run(r.Ops...) })
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			t.Errorf("%s: %v", roles[i].Name, err)
		}
	}
}
