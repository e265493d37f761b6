// Package sock is the little of the socket API that the load generator and the
// sink need: non-blocking sockets, an epoll set, and reads that throw away.
// One goroutine drives hundreds of connections with it, which takes a third of
// the processor time of a goroutine for each – time that on a small machine
// would be missing to the proxy under test.
package sock

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Listen returns a non-blocking socket that listens at an IPv4 address.
func Listen(addr netip.AddrPort) (fd int, err error) { return listen(addr, false) }

// ListenShared is Listen beside other such sockets (SO_REUSEPORT).
func ListenShared(addr netip.AddrPort) (fd int, err error) { return listen(addr, true) }

func listen(addr netip.AddrPort, shared bool) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err == nil && shared {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}
	if err == nil {
		// Accepted sockets inherit it.
		err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	}
	if err == nil {
		err = unix.Bind(fd, sockaddr(addr))
	}
	if err == nil {
		err = unix.Listen(fd, 1<<15)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("listen %s: %w", addr, err)
	}
	return fd, nil
}

// Local returns the address that fd is bound to.
func Local(fd int) (netip.AddrPort, error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, os.NewSyscallError("getsockname", err)
	}
	in4, ok := sa.(*unix.SockaddrInet4)
	if !ok {
		return netip.AddrPort{}, errors.New("not an IPv4 socket")
	}
	return netip.AddrPortFrom(netip.AddrFrom4(in4.Addr), uint16(in4.Port)), nil
}

// Start begins to connect to addr. On loopback the connection usually stands
// when it returns, so a first write may be tried at once.
func Start(addr netip.AddrPort) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err := unix.Connect(fd, sockaddr(addr)); err != nil && err != unix.EINPROGRESS {
		unix.Close(fd)
		return -1, fmt.Errorf("connect %s: %w", addr, err)
	}
	return fd, nil
}

// Dial connects to addr within timeout.
func Dial(addr netip.AddrPort, timeout time.Duration) (fd int, err error) {
	if fd, err = Start(addr); err != nil {
		return -1, err
	}
	if err = Await(fd, unix.POLLOUT, timeout); err == nil {
		var code int
		if code, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); err == nil && code != 0 {
			err = unix.Errno(code)
		}
	}
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("connect %s: %w", addr, err)
	}
	return fd, nil
}

// Await blocks until fd is ready for one of events (POLLIN, POLLOUT).
func Await(fd int, events int16, timeout time.Duration) error {
	deadline := time.Now().Add(timeout)
	for {
		set := []unix.PollFd{{Fd: int32(fd), Events: events}}
		n, err := unix.Poll(set, int(max(0, time.Until(deadline)/time.Millisecond)))
		switch {
		case err != nil && err != unix.EINTR:
			return os.NewSyscallError("poll", err)
		case n > 0:
			return nil
		case !time.Now().Before(deadline):
			return os.ErrDeadlineExceeded
		}
	}
}

// WriteAll writes all of b, waiting where it must.
func WriteAll(fd int, b []byte, timeout time.Duration) error {
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		switch {
		case err == unix.EAGAIN:
			if err := Await(fd, unix.POLLOUT, timeout); err != nil {
				return err
			}
		case err != nil:
			return os.NewSyscallError("write", err)
		default:
			b = b[n:]
		}
	}
	return nil
}

// ReadSome waits for bytes and reads what is there; 0 is the end.
func ReadSome(fd int, b []byte, timeout time.Duration) (int, error) {
	for {
		n, err := unix.Read(fd, b)
		if err == nil {
			return n, nil
		}
		if err != unix.EAGAIN {
			return 0, os.NewSyscallError("read", err)
		}
		if err := Await(fd, unix.POLLIN, timeout); err != nil {
			return 0, err
		}
	}
}

// discarded is never written to: the kernel only checks that it could be.
var discarded [1 << 20]byte

// Discard takes up to limit bytes off fd without copying them, which makes a
// reader of bulk data cost next to nothing.
func Discard(fd, limit int) (int, error) {
	return recv(fd, discarded[:min(limit, len(discarded))], unix.MSG_TRUNC)
}

func sockaddr(addr netip.AddrPort) *unix.SockaddrInet4 {
	return &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}
}
