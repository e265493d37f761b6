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

// Listen opens n SO_REUSEPORT listeners at one address, or none, and only if
// nobody else listens there.
//
// SO_REUSEPORT would share the port with a foreign process of the same user
// without a word, so the first socket listens before it has the option: of two
// processes one is refused, or both are. With SO_REUSEADDR connections that an
// earlier listener accepted do not stand in the way. All sockets exist before
// the first one listens, or a shortage could close it again with clients in its
// queue; and before the others exist the first one is bound, since a port that
// is taken is tried over and over.
func Listen(at netip.AddrPort, n int, o ListenOptions) ([]int32, Errno) {
	fds, e := listenSockets(at, n)
	for i := 0; i < len(fds) && e == 0; i++ {
		o.apply(fds[i])
		if i > 0 {
			if e = reusePort(fds[i]); e == 0 {
				e = bind(fds[i], at)
			}
		}
		if e == 0 {
			e = errno(unix.Listen(int(fds[i]), o.backlog()))
		}
		if e == 0 && i == 0 {
			e = reusePort(fds[i])
		}
	}
	if e != 0 {
		for _, fd := range fds {
			Close(fd)
		}
		return nil, e
	}
	return fds, 0
}

// listenSockets makes n sockets, of which the first is bound. With an error it
// returns those there are.
func listenSockets(at netip.AddrPort, n int) (fds []int32, e Errno) {
	for len(fds) < n {
		fd, e := Socket(at.Addr())
		if e != 0 {
			return fds, e
		}
		fds = append(fds, fd)
		if family(at.Addr()) == unix.AF_INET6 {
			setInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
		}
		if len(fds) == 1 {
			if e := bind(fd, at); e != 0 {
				return fds, e
			}
		}
	}
	return fds, 0
}

// apply sets what accepted sockets inherit for free.
func (o *ListenOptions) apply(fd int32) {
	NoDelay(fd)
	if o.KeepAlive > 0 {
		KeepAlive(fd, o.KeepAlive)
	}
	if o.UserTimeout > 0 {
		UserTimeout(fd, o.UserTimeout)
	}
}

func (o *ListenOptions) backlog() int {
	if o.Backlog > 0 {
		return o.Backlog
	}
	return maxBacklog()
}

func reusePort(fd int32) Errno { return setInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) }

func bind(fd int32, at netip.AddrPort) Errno {
	var sa unix.Sockaddr
	if a := at.Addr().Unmap(); a.Is4() {
		sa = &unix.SockaddrInet4{Port: int(at.Port()), Addr: a.As4()}
	} else {
		sa = &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16(), ZoneId: scope(at.Addr().Zone())}
	}
	return errno(unix.Bind(int(fd), sa))
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
