package dptest

import (
	"errors"
	"net/netip"
	"syscall"
	"testing"
)

// Listening reports whether any process has a listening TCP socket at addr,
// without connecting to it: a connection could be the one that the listener
// still accepts, and reach a backend. With SO_REUSEADDR a bind succeeds beside
// every connection whose socket had it too, but not beside a listener.
func Listening(t testing.TB, addr netip.AddrPort) bool {
	t.Helper()
	var family int
	var sa syscall.Sockaddr
	if addr.Addr().Is4() {
		family, sa = syscall.AF_INET, &syscall.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())}
	} else {
		family, sa = syscall.AF_INET6, &syscall.SockaddrInet6{Addr: addr.Addr().As16(), Port: int(addr.Port())}
	}
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		t.Fatal(err)
	}
	err = syscall.Bind(fd, sa)
	if err != nil && !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatal(err)
	}
	return err != nil
}
