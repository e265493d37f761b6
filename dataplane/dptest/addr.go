package dptest

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
)

// home is the loopback address of this test process. A random one keeps test
// binaries that run side by side out of each other's ports.
var home = func() netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], rand.Uint32())
	b[0], b[1] = 127, b[1]|1 // never 127.0.x.x, where real services are
	b[3] = b[3]%250 + 1
	return netip.AddrFrom4(b)
}()

// lastPort counts the ports handed out: from firstPort upwards, and round
// again.
var lastPort = func() *atomic.Uint32 {
	var n atomic.Uint32
	n.Store(rand.Uint32N(ports))
	return &n
}()

const (
	firstPort = 10_000
	ports     = 21_000 - firstPort // where the Consul agents of other tests begin
)

// FreeAddr returns an address on which nobody listens, on a loopback IP of this
// process's own and a port below the ephemeral range. No two calls return the
// same one. Where the tests could not be isolated ([Isolate]) another program
// may take it before it is used.
func FreeAddr(t testing.TB) netip.AddrPort {
	t.Helper()
	return freeAddr(t, home)
}

// FreeAddr6 is [FreeAddr] on ::1, which all processes share.
func FreeAddr6(t testing.TB) netip.AddrPort {
	t.Helper()
	return freeAddr(t, netip.IPv6Loopback())
}

// FreePort is [FreeAddr] for those who need a port at a certain address or at
// all of them: nobody listens on it anywhere.
func FreePort(t testing.TB) uint16 {
	t.Helper()
	for range ports {
		if port := freeAddr(t, netip.IPv4Unspecified()).Port(); free(netip.AddrPortFrom(netip.IPv6Unspecified(), port)) {
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

func freeAddr(t testing.TB, ip netip.Addr) netip.AddrPort {
	t.Helper()
	for range ports {
		addr := netip.AddrPortFrom(ip, uint16(firstPort+lastPort.Add(1)%ports))
		if free(addr) {
			return addr
		}
	}
	t.Fatal("no free port")
	return netip.AddrPort{}
}

// free tells whether a listener can be opened at addr. What is no IPv4 address
// is IPv6 alone.
func free(addr netip.AddrPort) bool {
	network := "tcp6"
	if addr.Addr().Is4() {
		network = "tcp4"
	}
	ln, err := net.ListenTCP(network, net.TCPAddrFromAddrPort(addr))
	if err != nil {
		return false
	}
	ln.Close()
	return true
}

// SilentAddr returns an address that neither accepts nor refuses: a connect to
// it takes until its time is out. It is a listener whose queue is full, so the
// kernel drops every further SYN.
func SilentAddr(t testing.TB) netip.AddrPort {
	t.Helper()
	addr := FreeAddr(t)
	sa := &syscall.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())}
	ln, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(ln) })
	if err := syscall.Bind(ln, sa); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(ln, 0); err != nil {
		t.Fatal(err)
	}
	// A backlog of 0 still queues one connection; the ones after it hang.
	for range 3 {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { syscall.Close(fd) })
		if err := syscall.Connect(fd, sa); err != nil && err != syscall.EINPROGRESS {
			t.Fatal(err)
		}
	}
	return addr
}
