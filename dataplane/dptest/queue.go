package dptest

import (
	"errors"
	"fmt"
	"syscall"
	"time"
	"unsafe"
)

// Unacked is how many of the peer's bytes the kernel at the other end has not
// acknowledged yet (SIOCOUTQ).
func (p *Peer) Unacked() (n int, err error) {
	raw, err := p.conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { n, failed = Queued(int(fd)) })
	return n, errors.Join(err, failed)
}

// Queued is [Peer.Unacked] of any socket of this process.
func Queued(fd int) (int, error) {
	var n int32
	if _, _, no := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.TIOCOUTQ, uintptr(unsafe.Pointer(&n))); no != 0 {
		return 0, no
	}
	return int(n), nil
}

// Acked waits until everything the peer wrote was acknowledged, that is, has
// arrived at the proxy. A reset before that throws bytes away here, and a
// reader at the far end cannot expect them.
func Acked() Op {
	return op(func(p *Peer) error {
		var n int
		var err error
		if !Poll(Patience, func() bool { n, err = p.Unacked(); return n == 0 || err != nil }) {
			return fmt.Errorf("%d bytes never acknowledged", n)
		}
		return err
	}, "acked")
}

// WritePaced sends n bytes, size at a time, one piece every pause.
func WritePaced(n int64, size int, pause time.Duration) Op {
	return op(func(p *Peer) error {
		tick := time.NewTicker(pause)
		defer tick.Stop()
		for end := p.Sent() + n; p.Sent() < end; <-tick.C {
			if err := p.write(min(end-p.Sent(), int64(size)), size); err != nil {
				return err
			}
		}
		return nil
	}, "write %d by %d every %v", n, size, pause)
}

// ReadPaced receives n bytes, size at a time, one piece every pause.
func ReadPaced(n int64, size int, pause time.Duration) Op {
	return op(func(p *Peer) error {
		tick := time.NewTicker(pause)
		defer tick.Stop()
		for end := p.Got() + n; p.Got() < end; <-tick.C {
			if err := p.readUntil(min(end, p.Got()+int64(size)), size); err != nil {
				return err
			}
		}
		return nil
	}, "read %d by %d every %v", n, size, pause)
}
