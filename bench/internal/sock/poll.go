package sock

import (
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Event names, so that users need not import unix for them.
const (
	In   = unix.EPOLLIN
	Out  = unix.EPOLLOUT
	Edge = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET
)

// Poller is an epoll set. One goroutine uses it.
type Poller struct {
	fd    int
	timer int // timerfd, -1 until the first WaitUntil
	buf   [256]unix.EpollEvent
}

// NewPoller returns an empty set. Close it.
func NewPoller() (*Poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	return &Poller{fd: fd, timer: -1}, nil
}

// Close releases the set, not what is in it.
func (p *Poller) Close() {
	unix.Close(p.fd)
	if p.timer >= 0 {
		unix.Close(p.timer)
	}
}

// Add watches fd; its events carry id, which is not negative.
func (p *Poller) Add(fd int, events uint32, id int32) error {
	return p.control(unix.EPOLL_CTL_ADD, fd, events, id)
}

// Modify changes what is watched of fd.
func (p *Poller) Modify(fd int, events uint32, id int32) error {
	return p.control(unix.EPOLL_CTL_MOD, fd, events, id)
}

func (p *Poller) control(op, fd int, events uint32, id int32) error {
	ev := unix.EpollEvent{Events: events, Fd: id}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(p.fd, op, fd, &ev))
}

// Wait returns what happened, at the latest after timeout, rounded up to a
// millisecond. The slice is valid until the next call.
func (p *Poller) Wait(timeout time.Duration) ([]unix.EpollEvent, error) {
	deadline := time.Now().Add(timeout)
	for {
		left := max(0, time.Until(deadline))
		n, err := unix.EpollWait(p.fd, p.buf[:], int((left+time.Millisecond-1)/time.Millisecond))
		switch {
		case err == nil:
			return p.buf[:n], nil
		case err != unix.EINTR: // the runtime's own signals do that
			return nil, os.NewSyscallError("epoll_wait", err)
		}
	}
}

// timerID is the id of the timer in the set; WaitUntil never returns it.
const timerID = -1

// WaitUntil is Wait with a deadline that is exact to some microseconds.
func (p *Poller) WaitUntil(deadline time.Time) ([]unix.EpollEvent, error) {
	timeout := time.Duration(0)
	if d := time.Until(deadline); d > 0 {
		if err := p.arm(d); err != nil {
			return nil, err
		}
		timeout = time.Minute
	}
	events, err := p.Wait(timeout)
	for i, ev := range events {
		if ev.Fd == timerID {
			events[i] = events[len(events)-1]
			return events[:len(events)-1], err
		}
	}
	return events, err
}

// arm makes an event with timerID come after d, which is not 0.
func (p *Poller) arm(d time.Duration) error {
	if p.timer < 0 {
		fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
		if err != nil {
			return os.NewSyscallError("timerfd_create", err)
		}
		p.timer = fd
		if err := p.Add(fd, unix.EPOLLIN|unix.EPOLLET, timerID); err != nil {
			return err
		}
	}
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}
	return os.NewSyscallError("timerfd_settime", unix.TimerfdSettime(p.timer, 0, &spec, nil))
}

// recv is recvfrom without the address, which package unix would allocate.
func recv(fd int, b []byte, flags int) (int, error) {
	n, _, e := unix.Syscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), uintptr(flags), 0, 0)
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}
