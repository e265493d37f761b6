package sys

import (
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// RTT is what TCP knows about the round trip to a peer.
type RTT struct {
	Least     time.Duration // of the last minutes (net.ipv4.tcp_min_rtt_wlen)
	Smoothed  time.Duration
	Deviation time.Duration // mean, smoothed too
}

// RoundTrip reads a connection's RTT; ok is false where the kernel does not tell.
func RoundTrip(fd int32) (rtt RTT, ok bool) {
	info, size := tcpInfo(fd)
	if size < unsafe.Offsetof(info.Min_rtt)+unsafe.Sizeof(info.Min_rtt) {
		return RTT{}, false
	}
	us := func(n uint32) time.Duration { return time.Duration(n) * time.Microsecond }
	return RTT{us(info.Min_rtt), us(info.Rtt), us(info.Rttvar)}, true
}

// tcpInfo is TCP_INFO and how much of it the kernel filled in, 0 when it failed.
// The wrapper of x/sys allocates.
func tcpInfo(fd int32) (info unix.TCPInfo, filled uintptr) {
	size := uint32(unsafe.Sizeof(info))
	if _, _, e := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, unix.TCP_INFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0); e != 0 {
		return info, 0
	}
	return info, uintptr(size)
}

// CapSendBuffer bounds what a socket holds that its peer has not acknowledged
// to about n bytes of data; the kernel allows as much again for its own needs
// (SO_SNDBUF). The kernel tunes the buffer no longer.
func CapSendBuffer(fd int32, n int) Errno { return setInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, n) }

// TuneSendBuffer has the kernel tune a send buffer again that was capped
// (Linux 5.14; before that it stays as it is).
func TuneSendBuffer(fd int32) Errno { return setInt(fd, unix.SOL_SOCKET, unix.SO_BUF_LOCK, 0) }

// SendBufferMost is the size up to which the kernel tunes send buffers, in the
// units of CapSendBuffer; 0 when it cannot be read.
func SendBufferMost() int {
	text, err := readFile("/proc/sys/net/ipv4/tcp_wmem")
	if err != nil {
		return 0
	}
	if f := strings.Fields(text); len(f) == 3 {
		if n, err := strconv.Atoi(f[2]); err == nil {
			return n / 2
		}
	}
	return 0
}
