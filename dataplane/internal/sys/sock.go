package sys

import (
	"encoding/binary"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Sockaddr is room for one socket address of either family, in the kernel's
// layout. It belongs to one loop and is reused, so that no call allocates.
type Sockaddr struct {
	raw unix.RawSockaddrAny
	len uint32
}

// Set stores ap.
func (s *Sockaddr) Set(ap netip.AddrPort) {
	port := ap.Port()
	if a := ap.Addr().Unmap(); a.Is4() {
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(&s.raw))
		*sa = unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: a.As4()}
		putPort(&sa.Port, port)
		s.len = unix.SizeofSockaddrInet4
		return
	}
	sa := (*unix.RawSockaddrInet6)(unsafe.Pointer(&s.raw))
	*sa = unix.RawSockaddrInet6{Family: unix.AF_INET6, Addr: ap.Addr().As16(), Scope_id: scope(ap.Addr().Zone())}
	putPort(&sa.Port, port)
	s.len = unix.SizeofSockaddrInet6
}

// AddrPort is the stored address; IPv4-mapped ones come back as IPv4. The zone
// of a link-local address is dropped: nobody matches on it.
func (s *Sockaddr) AddrPort() netip.AddrPort {
	switch s.raw.Addr.Family {
	case unix.AF_INET:
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(&s.raw))
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), getPort(&sa.Port))
	case unix.AF_INET6:
		sa := (*unix.RawSockaddrInet6)(unsafe.Pointer(&s.raw))
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), getPort(&sa.Port))
	}
	return netip.AddrPort{}
}

func putPort(p *uint16, port uint16) {
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(p))[:], port)
}

func getPort(p *uint16) uint16 {
	return binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(p))[:])
}

// scope reads a numeric zone; names of interfaces are resolved by the control
// plane, which writes the number.
func scope(zone string) uint32 {
	n, _ := strconv.ParseUint(zone, 10, 32)
	return uint32(n)
}

func family(a netip.Addr) int {
	if a.Unmap().Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// Accept takes one connection off a listener's queue and stores its peer in sa.
func Accept(fd int32, sa *Sockaddr) (int32, Errno) {
	for {
		sa.len = unix.SizeofSockaddrAny
		n, _, e := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), uintptr(unsafe.Pointer(&sa.raw)), uintptr(unsafe.Pointer(&sa.len)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		if e != EINTR {
			return int32(n), e
		}
	}
}

// Socket makes a TCP socket for a connection to, or a listener at, addresses of
// a's family.
//
// SO_REUSEADDR is set first: without it the source port that the kernel picks
// for a connection would keep a listener from opening on that port later.
func Socket(a netip.Addr) (int32, Errno) {
	fd, _, e := unix.RawSyscall(unix.SYS_SOCKET, uintptr(family(a)), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if e != 0 {
		return -1, e
	}
	setInt(int32(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	return int32(fd), 0
}

// SameFamily reports whether a socket for a will do for b.
func SameFamily(a, b netip.Addr) bool { return family(a) == family(b) }

// Dial starts a connection to sa, which holds to. EINPROGRESS is the usual
// answer and comes with a valid fd; with any other error there is none.
func Dial(to netip.AddrPort, sa *Sockaddr) (int32, Errno) {
	fd, e := Socket(to.Addr())
	if e != 0 {
		return -1, e
	}
	return Connect(fd, to, sa)
}

// Connect is [Dial] with a socket made by [Socket], which it takes over.
func Connect(fd int32, to netip.AddrPort, sa *Sockaddr) (int32, Errno) {
	sa.Set(to)
	_, _, e := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa.raw)), uintptr(sa.len))
	if e != 0 && e != EINPROGRESS && e != EINTR {
		Close(fd)
		return -1, e
	}
	return fd, EINPROGRESS
}

// LocalAddr is getsockname; sa is scratch.
func LocalAddr(fd int32, sa *Sockaddr) netip.AddrPort {
	sa.len = unix.SizeofSockaddrAny
	if _, _, e := unix.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&sa.raw)), uintptr(unsafe.Pointer(&sa.len))); e != 0 {
		return netip.AddrPort{}
	}
	return sa.AddrPort()
}

// PeerAddr is getpeername; sa is scratch.
func PeerAddr(fd int32, sa *Sockaddr) netip.AddrPort {
	sa.len = unix.SizeofSockaddrAny
	if _, _, e := unix.RawSyscall(unix.SYS_GETPEERNAME, uintptr(fd), uintptr(unsafe.Pointer(&sa.raw)), uintptr(unsafe.Pointer(&sa.len))); e != 0 {
		return netip.AddrPort{}
	}
	return sa.AddrPort()
}

// TakeError reads and clears SO_ERROR. Use it only to finish a connect or when
// reading is over: it turns a reset into what looks like a clean end.
func TakeError(fd int32) Errno {
	v, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return errno(err)
	}
	return Errno(v)
}

// tcpClose is TCP_CLOSE of the kernel's tcp_states.h.
const tcpClose = 7

// Dead reports whether a connected socket is in state CLOSE, as after a reset,
// without consuming its pending error.
func Dead(fd int32) bool {
	// The state is the first byte of tcp_info. The wrapper of x/sys allocates all
	// of it, and a flood of clients that reset is no time for that.
	var state uint8
	size := uint32(unsafe.Sizeof(state))
	_, _, e := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, unix.TCP_INFO,
		uintptr(unsafe.Pointer(&state)), uintptr(unsafe.Pointer(&size)), 0)
	return e == 0 && state == tcpClose
}

// Unsent is the number of bytes queued on a socket that its peer has not yet
// acknowledged (SIOCOUTQ).
func Unsent(fd int32) int {
	n, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
	if err != nil {
		return 0
	}
	return n
}

// Acked is how many bytes a socket's peer has acknowledged, modulo 2^32, and how
// many ms ago it can last have taken some. Data was sent then and acknowledged
// since: a retransmission alone is no sign of life, and the answer to a probe
// none of progress.
func Acked(fd int32) (n uint32, ms int64) {
	info, size := tcpInfo(fd)
	if size == 0 {
		return 0, math.MaxInt64
	}
	return uint32(info.Bytes_acked), int64(max(info.Last_data_sent, info.Last_ack_recv))
}

// NoDelay turns Nagle's algorithm off.
func NoDelay(fd int32) { setInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) }

// KeepAlive turns TCP keepalive on, with idle before the first probe.
func KeepAlive(fd int32, idle time.Duration) {
	s := max(1, int(idle/time.Second))
	setInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, s)
	setInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, max(1, s/3))
	setInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 3)
	setInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
}

// UserTimeout sets how long sent data may stay unacknowledged.
func UserTimeout(fd int32, d time.Duration) {
	setInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d/time.Millisecond))
}

func setInt(fd int32, level, name, value int) Errno {
	v := int32(value)
	_, _, e := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name), uintptr(unsafe.Pointer(&v)), 4, 0)
	return e
}

func setLinger(fd int32) {
	v := unix.Linger{Onoff: 1}
	unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_LINGER, uintptr(unsafe.Pointer(&v)), unsafe.Sizeof(v), 0)
}

// EphemeralPorts is the range that the kernel takes source ports from; the
// kernel's own default when it cannot be read.
func EphemeralPorts() (lo, hi uint16) {
	lo, hi = 32768, 60999
	b, err := readFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return lo, hi
	}
	if f := strings.Fields(b); len(f) == 2 {
		l, err1 := strconv.ParseUint(f[0], 10, 16)
		h, err2 := strconv.ParseUint(f[1], 10, 16)
		if err1 == nil && err2 == nil {
			return uint16(l), uint16(h)
		}
	}
	return lo, hi
}

// ReservedPorts is net.ipv4.ip_local_reserved_ports: the source ports that the
// kernel gives to nobody who does not ask for them, as ranges like 80,90-99.
func ReservedPorts() (string, error) { return readFile("/proc/sys/net/ipv4/ip_local_reserved_ports") }
