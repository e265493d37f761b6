package load

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"dill/bench/internal/sock"
	"dill/bench/wire"
)

// visit is one connection that lives for one request: connect, send, read to
// the end, close. The sink closes first, as servers of short connections do, so
// no client port is left in TIME_WAIT and the run can go on for as long as it
// likes. visits are used again and again.
type visit struct {
	exchange     // reply has room for one byte too many
	target   int // the next of Spec.Targets
}

// runConnects keeps spec.Conns visits under way. Each lasts from connect to the
// end of the stream, so a proxy that does not pass the sink's FIN on fails.
func runConnects(ctx context.Context, spec Spec) (*Result, error) {
	poll, err := sock.NewPoller()
	if err != nil {
		return nil, err
	}
	defer poll.Close()
	visits := make([]*visit, spec.Conns)
	defer func() {
		for _, v := range visits {
			if v != nil && v.fd >= 0 {
				unix.Close(v.fd)
			}
		}
	}()

	w := newWindow(spec)
	for i := range visits {
		v := &visit{target: i}
		v.fd, v.reply = -1, make([]byte, spec.Size+1)
		hello := wire.Hello{Mode: wire.OneShot, Size: uint32(spec.Size), Stream: uint64(i)}
		v.request = append(hello.AppendTo(nil), wire.NewMessage(uint64(i), spec.Size)...)
		visits[i] = v
		if err := v.begin(poll, spec, int32(i), time.Now()); err != nil {
			return nil, err
		}
	}
	for w.tick(time.Now()) {
		events, err := poll.Wait(spec.Patience)
		if err != nil {
			return nil, err
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if len(events) == 0 {
			return nil, fmt.Errorf("no connection ended for %v", spec.Patience)
		}
		for _, ev := range events {
			v := visits[ev.Fd]
			done, err := v.progress()
			if err != nil {
				return nil, fmt.Errorf("connection attempt %d of client %d: %w", v.seq, ev.Fd, err)
			}
			if !done {
				continue
			}
			unix.Close(v.fd)
			v.fd = -1
			now := time.Now()
			w.record(now.Sub(v.since))
			if err := v.begin(poll, spec, ev.Fd, now); err != nil {
				return nil, err
			}
		}
	}
	return w.result, w.err
}

// begin starts the next connection and, where it stands already, sends.
func (v *visit) begin(poll *sock.Poller, spec Spec, id int32, now time.Time) (err error) {
	v.seq++
	v.got, v.since = 0, now
	v.target++
	wire.Stamp(v.request[wire.HelloSize:], v.seq)
	v.out = v.request
	if v.fd, err = sock.Start(spec.Targets[v.target%len(spec.Targets)]); err != nil {
		return err
	}
	if err := v.flush(); err != nil {
		return err
	}
	events := uint32(sock.Edge)
	if len(v.out) == 0 {
		events &^= sock.Out // which would only say what is known
	}
	return poll.Add(v.fd, events, id)
}

// progress reports whether the answer has come and the sink has ended.
func (v *visit) progress() (done bool, err error) {
	if err := v.flush(); err != nil || len(v.out) > 0 {
		return false, err
	}
	for {
		n, err := unix.Read(v.fd, v.reply[v.got:])
		switch {
		case err == unix.EAGAIN:
			return false, nil
		case err != nil:
			return false, os.NewSyscallError("read", err)
		case n == 0:
			if v.got != len(v.reply)-1 {
				return false, fmt.Errorf("it ended after %d bytes of the answer", v.got)
			}
			if !wire.IsAnswer(v.reply[:v.got], v.request[wire.HelloSize:], v.seq) {
				return false, errLie
			}
			return true, nil
		}
		if v.got += n; v.got == len(v.reply) {
			return false, errors.New("it sent more than the answer")
		}
	}
}
