package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Recv reads what is queued on a socket into p, which is not empty. 0 bytes
// without an error is the end of the stream.
func Recv(fd int32, p []byte) (int, Errno) {
	for {
		n, _, e := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), 0, 0, 0)
		if e != EINTR {
			return int(n), e
		}
	}
}

// Discard takes up to n queued bytes off a TCP socket without copying them.
func Discard(fd int32, n int) (int, Errno) {
	for {
		r, _, e := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), 0, uintptr(n), unix.MSG_TRUNC, 0, 0)
		if e != EINTR {
			return int(r), e
		}
	}
}

// Send queues p, which is not empty, on a socket and returns how much of it
// was taken.
func Send(fd int32, p []byte) (int, Errno) {
	for {
		n, _, e := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), unix.MSG_NOSIGNAL, 0, 0)
		if e != EINTR {
			return int(n), e
		}
	}
}

// Splice moves up to n bytes between a socket and a pipe without copying them
// through user space. It never sets SPLICE_F_MORE: that corks the socket and
// stalls the last segment for 200 ms.
func Splice(from, to int32, n int) (int, Errno) {
	for {
		r, _, e := unix.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n), unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		if e != EINTR {
			return int(r), e
		}
	}
}

// Pipe makes a pipe of size bytes, or of as large a fraction of it as the
// kernel grants (fs.pipe-max-size, and fs.pipe-user-pages-soft for all pipes of
// an unprivileged user), and returns its ends and its size.
func Pipe(size int) (r, w int32, granted int, e Errno) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		return -1, -1, 0, errno(err)
	}
	granted, err := unix.FcntlInt(uintptr(p[1]), unix.F_GETPIPE_SZ, 0)
	if err != nil {
		granted = 4096 // the least any pipe holds: one page
	}
	for ; size != granted && size >= 4096; size /= 2 {
		if n, err := unix.FcntlInt(uintptr(p[1]), unix.F_SETPIPE_SZ, size); err == nil {
			granted = n
			break
		}
	}
	return int32(p[0]), int32(p[1]), granted, 0
}

// Close closes fd. Linux releases the descriptor whatever it returns.
func Close(fd int32) {
	unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
}

// ShutdownWrite sends FIN after everything that is queued.
func ShutdownWrite(fd int32) Errno {
	_, _, e := unix.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0)
	return e
}

// Reset closes fd with RST instead of FIN and drops what is queued.
func Reset(fd int32) {
	setLinger(fd)
	Close(fd)
}

// errno unwraps what x/sys returns; anything else is a broken invariant.
func errno(err error) Errno {
	if err == nil {
		return 0
	}
	if e, ok := err.(unix.Errno); ok {
		return e
	}
	panic("dill: BUG: not an errno: " + err.Error())
}
