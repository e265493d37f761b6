package load

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"dill/bench/internal/sock"
	"dill/bench/wire"
)

// exchange is a connection that sends requests and takes their answers, one at
// a time.
type exchange struct {
	fd      int
	request []byte // as sent, behind the hello the first time
	out     []byte // of it, still to be sent
	reply   []byte
	got     int // bytes of reply
	seq     uint64
	busy    bool      // a request is under way
	since   time.Time // when it was due
}

var errLie = errors.New("the answer is not the one to this request")

// openExchanges connects all connections of spec and adds them to poll under
// their index.
func openExchanges(poll *sock.Poller, spec Spec) (all []*exchange, err error) {
	defer func() {
		if err != nil {
			closeExchanges(all)
		}
	}()
	for i := range spec.Conns {
		fd, err := sock.Dial(spec.Targets[i%len(spec.Targets)], spec.Patience)
		if err != nil {
			return all, fmt.Errorf("connection %d: %w", i, err)
		}
		x := &exchange{fd: fd, request: wire.NewMessage(uint64(i), spec.Size), reply: make([]byte, spec.Size)}
		all = append(all, x)
		hello := wire.Hello{Mode: wire.Echo, Size: uint32(spec.Size), Stream: uint64(i)}.AppendTo(nil)
		if err := sock.WriteAll(fd, hello, spec.Patience); err != nil {
			return all, fmt.Errorf("connection %d: %w", i, err)
		}
		if err := poll.Add(fd, sock.Edge, int32(i)); err != nil {
			return all, err
		}
	}
	return all, nil
}

func closeExchanges(all []*exchange) {
	for _, x := range all {
		unix.Close(x.fd)
	}
}

// send begins the next request, which was due at that time.
func (x *exchange) send(due time.Time) error {
	x.seq++
	wire.Stamp(x.request, x.seq)
	x.out, x.got, x.busy, x.since = x.request, 0, true, due
	return x.flush()
}

func (x *exchange) flush() error {
	for len(x.out) > 0 {
		n, err := unix.Write(x.fd, x.out)
		if err == unix.EAGAIN {
			return nil
		}
		if err != nil {
			return os.NewSyscallError("write", err)
		}
		x.out = x.out[n:]
	}
	return nil
}

// progress sends and reads what can be without waiting, and reports whether
// the answer is complete. It is called for edges.
func (x *exchange) progress() (done bool, err error) {
	if !x.busy {
		return false, nil // the edge of the connect, or of a buffer that drained
	}
	if err := x.flush(); err != nil || len(x.out) > 0 {
		return false, err
	}
	for x.got < len(x.reply) {
		n, err := unix.Read(x.fd, x.reply[x.got:])
		switch {
		case err == unix.EAGAIN:
			return false, nil
		case err != nil:
			return false, os.NewSyscallError("read", err)
		case n == 0:
			return false, errors.New("the connection ended before the answer was complete")
		}
		short := n < len(x.reply)-x.got
		if x.got += n; short {
			return false, nil
		}
	}
	if !wire.IsAnswer(x.reply, x.request, x.seq) {
		return false, errLie
	}
	x.busy = false
	return true, nil
}

func runRequests(ctx context.Context, spec Spec) (*Result, error) {
	poll, err := sock.NewPoller()
	if err != nil {
		return nil, err
	}
	defer poll.Close()
	all, err := openExchanges(poll, spec)
	if err != nil {
		return nil, err
	}
	defer closeExchanges(all)

	w := newWindow(spec)
	r := requester{all: all, think: spec.Think, patience: spec.Patience, moved: time.Now()}
	for i, x := range all {
		if err := x.send(r.moved); err != nil {
			return nil, fmt.Errorf("connection %d: %w", i, err)
		}
	}
	for w.tick(time.Now()) {
		events, err := r.wait(poll)
		if err != nil {
			return nil, err
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		for _, ev := range events {
			x := all[ev.Fd]
			done, err := x.progress()
			if done {
				// One reading of the clock ends this request and begins the
				// next.
				now := time.Now()
				w.record(now.Sub(x.since))
				w.bytes += uint64(2 * spec.Size)
				err = r.answered(x, now)
			}
			if err != nil {
				return nil, fmt.Errorf("connection %d, request %d: %w", ev.Fd, x.seq, err)
			}
		}
	}
	return w.result, w.err
}

// requester begins the next request of each connection that has its answer: at
// once, or after a pause. All pauses are equal, so those that wait are a queue.
type requester struct {
	all      []*exchange
	think    time.Duration
	patience time.Duration
	moved    time.Time // when an answer was complete, or a request begun
	pausing  []pausing
}

type pausing struct {
	*exchange
	until time.Time
}

// answered begins the next request of x, or its pause.
func (r *requester) answered(x *exchange, now time.Time) error {
	r.moved = now
	if r.think == 0 {
		return x.send(now)
	}
	r.pausing = append(r.pausing, pausing{x, now.Add(r.think)})
	return nil
}

// wait returns what happened, after it has begun the requests whose pause is
// over. It fails when no answer has come for too long.
func (r *requester) wait(poll *sock.Poller) ([]unix.EpollEvent, error) {
	if r.think == 0 {
		events, err := poll.Wait(r.patience)
		if err == nil && len(events) == 0 {
			err = fmt.Errorf("no answer for %v", r.patience)
		}
		return events, err
	}
	now := time.Now()
	for len(r.pausing) > 0 && !r.pausing[0].until.After(now) {
		if err := r.pausing[0].send(now); err != nil {
			return nil, err
		}
		r.moved = now
		r.pausing = slices.Delete(r.pausing, 0, 1)
	}
	until := r.moved.Add(r.patience)
	if now.After(until) {
		return nil, fmt.Errorf("no answer for %v", r.patience)
	}
	if len(r.pausing) > 0 {
		until = r.pausing[0].until
	}
	return poll.WaitUntil(until)
}
