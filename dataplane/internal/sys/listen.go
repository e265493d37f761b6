package sys

import (
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ListenOptions are what accepted sockets inherit, and the queue's length.
type ListenOptions struct {
	Backlog     int           // length of the accept queue; 0 = net.core.somaxconn
	KeepAlive   time.Duration // idle before the first probe; 0 = off
	UserTimeout time.Duration // 0 = the kernel's default
}

// Listen opens one SO_REUSEPORT listener. TCP_NODELAY, keepalive and the user
// timeout are set here because accepted sockets inherit them for free.
func Listen(at netip.AddrPort, o ListenOptions) (int32, Errno) {
	fd, e := bound(at, true)
	if e != 0 {
		return -1, e
	}
	NoDelay(fd)
	if o.KeepAlive > 0 {
		KeepAlive(fd, o.KeepAlive)
	}
	if o.UserTimeout > 0 {
		UserTimeout(fd, o.UserTimeout)
	}
	backlog := o.Backlog
	if backlog <= 0 {
		backlog = maxBacklog()
	}
	if err := unix.Listen(int(fd), backlog); err != nil {
		Close(fd)
		return -1, errno(err)
	}
	return fd, 0
}

// Probe tells whether at is free of other processes. SO_REUSEPORT would share
// the port with a foreign process of the same user without a word, so this
// binds without it, and without listening: old sessions of dill on that port
// do not stand in the way. Use it only while dill has no listener on at.
func Probe(at netip.AddrPort) Errno {
	fd, e := bound(at, false)
	if e == 0 {
		Close(fd)
	}
	return e
}

func bound(at netip.AddrPort, reusePort bool) (int32, Errno) {
	s, err := unix.Socket(family(at.Addr()), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return -1, errno(err)
	}
	fd := int32(s)
	setInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if reusePort {
		setInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}
	var sa unix.Sockaddr
	if a := at.Addr().Unmap(); a.Is4() {
		sa = &unix.SockaddrInet4{Port: int(at.Port()), Addr: a.As4()}
	} else {
		setInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
		sa = &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16(), ZoneId: scope(at.Addr().Zone())}
	}
	if err := unix.Bind(s, sa); err != nil {
		Close(fd)
		return -1, errno(err)
	}
	return fd, 0
}

// maxBacklog is net.core.somaxconn, the most the kernel grants; 4096 is its
// default since Linux 5.4.
var maxBacklog = sync.OnceValue(func() int {
	b, err := readFile("/proc/sys/net/core/somaxconn")
	if err != nil {
		return 4096
	}
	n, err := strconv.Atoi(strings.TrimSpace(b))
	if err != nil || n <= 0 {
		return 4096
	}
	return n
})

func readFile(name string) (string, error) {
	b, err := os.ReadFile(name)
	return string(b), err
}

// RaiseOpenFiles lifts RLIMIT_NOFILE to its hard limit and returns the limit
// in force.
func RaiseOpenFiles() (uint64, error) {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 0, err
	}
	if r.Cur == r.Max {
		return r.Cur, nil
	}
	r.Cur = r.Max
	err := unix.Setrlimit(unix.RLIMIT_NOFILE, &r)
	return r.Cur, err
}
