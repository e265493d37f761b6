package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Event is what Wait fills in.
type Event unix.EpollEvent

// The readiness bits of an Event.
const (
	In    = unix.EPOLLIN
	Pri   = unix.EPOLLPRI
	Out   = unix.EPOLLOUT
	RdHup = unix.EPOLLRDHUP
	Hup   = unix.EPOLLHUP
	Err   = unix.EPOLLERR
	Edge  = unix.EPOLLET
)

// Key is the 64 bits of user data that an Event carries: whose fd it is, and
// the generation that tells a late event on a reused slot from a true one.
type Key struct {
	ID  int32
	Gen uint32
}

// Key returns what was given to EpollAdd.
func (e *Event) Key() Key { return Key{ID: e.Fd, Gen: uint32(e.Pad)} }

// EpollCreate opens an epoll set.
func EpollCreate() (int32, Errno) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	return int32(fd), errno(err)
}

// EpollAdd puts fd in the set; closing fd takes it out again.
func EpollAdd(set, fd int32, bits uint32, k Key) Errno {
	return epollCtl(unix.EPOLL_CTL_ADD, set, fd, bits, k)
}

// EpollMod changes what is waited for; bits 0 keeps only Err and Hup.
func EpollMod(set, fd int32, bits uint32, k Key) Errno {
	return epollCtl(unix.EPOLL_CTL_MOD, set, fd, bits, k)
}

// EpollDel takes fd out of the set while it stays open.
func EpollDel(set, fd int32) Errno {
	return epollCtl(unix.EPOLL_CTL_DEL, set, fd, 0, Key{})
}

func epollCtl(op uintptr, set, fd int32, bits uint32, k Key) Errno {
	ev := unix.EpollEvent{Events: bits, Fd: k.ID, Pad: int32(k.Gen)}
	_, _, e := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(set), op, uintptr(fd), uintptr(unsafe.Pointer(&ev)), 0, 0)
	return e
}

// Wait returns how many events are ready, waiting at most ms milliseconds. It
// holds the scheduler's P meanwhile: keep ms small. An interrupted wait counts
// as an empty one.
func Wait(set int32, evs []Event, ms int) int {
	n, _, e := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(set), uintptr(unsafe.Pointer(unsafe.SliceData(evs))), uintptr(len(evs)), uintptr(ms), 0, 0)
	if e != 0 {
		if e == EINTR {
			return 0
		}
		panic("dill: BUG: epoll_wait: " + e.Error())
	}
	return int(n)
}

// Timer is a timerfd on the monotonic clock.
func Timer() (int32, Errno) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	return int32(fd), errno(err)
}

// SetTimer makes fd readable once, ns nanoseconds from now; 0 disarms it.
// Setting it also takes back an expiry that was not read.
func SetTimer(fd int32, ns int64) {
	v := unix.ItimerSpec{Value: unix.NsecToTimespec(ns)}
	unix.RawSyscall6(unix.SYS_TIMERFD_SETTIME, uintptr(fd), 0, uintptr(unsafe.Pointer(&v)), 0, 0, 0)
}
