package load

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"dill/bench/internal/sock"
	"dill/bench/proc"
	"dill/bench/wire"
)

// runIdle opens connections up to each stage, moves spec.Moved bytes over each
// as it opens, and reads what the proxy holds when all are still.
func runIdle(ctx context.Context, spec Spec) (*Result, error) {
	var fds []int
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	began := time.Now()
	r := &Result{}
	buf := make([]byte, wire.SampleSize)
	for _, stage := range spec.Stages {
		for len(fds) < stage {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			fd, err := move(spec, len(fds), buf)
			if err != nil {
				return nil, fmt.Errorf("connection %d: %w", len(fds), err)
			}
			fds = append(fds, fd)
			r.Ops++
			r.Bytes += uint64(spec.Moved)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(spec.Settle):
		}
		s := Stage{Conns: stage}
		var err error
		if s.RSS, err = proc.RSS(spec.Watch["proxy"]...); err != nil {
			return nil, err
		}
		if s.Files, err = proc.Files(spec.Watch["proxy"]...); err != nil {
			return nil, err
		}
		r.Stages = append(r.Stages, s)
	}
	if err := alive(fds); err != nil {
		return nil, err
	}
	r.Elapsed, r.AllOps = time.Since(began), r.Ops
	return r, nil
}

// move opens a connection and moves half of spec.Moved each way.
func move(spec Spec, i int, buf []byte) (_ int, err error) {
	fd, err := sock.Dial(spec.Targets[i%len(spec.Targets)], spec.Patience)
	if err != nil {
		return -1, err
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	half := spec.Moved / 2
	hello := wire.Hello{Mode: wire.Exchange, Stream: uint64(i), Up: uint64(half), Down: uint64(half)}
	if err := sock.WriteAll(fd, hello.AppendTo(nil), spec.Patience); err != nil {
		return -1, err
	}
	if err := sock.WriteAll(fd, wire.Pattern(uint64(i), 0, half), spec.Patience); err != nil {
		return -1, err
	}
	for got := 0; got < half; {
		n, err := sock.ReadSome(fd, buf[:min(len(buf), half-got)], spec.Patience)
		if err != nil {
			return -1, err
		}
		if n == 0 {
			return -1, fmt.Errorf("it ended after %d of %d bytes", got, half)
		}
		if !bytes.Equal(buf[:n], wire.Pattern(uint64(i), uint64(got), n)) {
			return -1, fmt.Errorf("wrong bytes after %d", got)
		}
		got += n
	}
	return fd, nil
}

// alive checks that no connection has ended while it was idle.
func alive(fds []int) error {
	for i, fd := range fds {
		var b [1]byte
		if n, err := unix.Read(fd, b[:]); err != unix.EAGAIN {
			return fmt.Errorf("idle connection %d did not stay: read %d, %w", i, n, os.NewSyscallError("read", err))
		}
	}
	return nil
}
