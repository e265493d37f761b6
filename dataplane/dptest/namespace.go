package dptest

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
)

// The addresses of the two ends of a wire to a [Namespace].
var (
	HereAddr = netip.MustParseAddr("10.77.0.1")
	FarAddr  = netip.MustParseAddr("10.77.0.2")
)

// Namespace is another network namespace, and a thread in it. It is for a
// process in a namespace of its own, see [SpawnIsolated].
type Namespace struct {
	there chan func()
	tid   int // of the thread
}

// newNamespace makes one that has no wire to here yet.
func newNamespace() (*Namespace, error) {
	n := &Namespace{there: make(chan func())}
	entered := make(chan error)
	go func() {
		// Never unlocked: the thread ends with the goroutine, and nobody else
		// meets its namespace.
		runtime.LockOSThread()
		n.tid = syscall.Gettid()
		err := syscall.Unshare(syscall.CLONE_NEWNET)
		entered <- err
		if err == nil {
			for do := range n.there {
				do()
			}
		}
	}()
	if err := <-entered; err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	return n, nil
}

// NewVeth makes a namespace at the other end of a veth pair, as a container is.
// The error wraps [exec.ErrNotFound] on a machine without ip(8).
func NewVeth() (*Namespace, error) {
	n, err := newNamespace()
	if err != nil {
		return nil, err
	}
	if err = ip("link add here0 type veth peer name far0"); err == nil {
		err = ip(fmt.Sprintf("link set far0 netns %d", n.tid))
	}
	if err == nil {
		err = raise("here0", HereAddr)
	}
	if err == nil {
		n.There(func() { err = raise("far0", FarAddr) })
	}
	if err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// raise gives a device an address in a network of 256 and brings it up.
func raise(device string, addr netip.Addr) error {
	if err := ip(fmt.Sprintf("addr add %s/24 dev %s", addr, device)); err != nil {
		return err
	}
	return ip("link set " + device + " up")
}

// ip runs ip(8) in the namespace of the calling thread.
func ip(args string) error {
	out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", args, err, out)
	}
	return nil
}

// There runs do on the thread in the namespace: sockets that it opens itself,
// without another goroutine's help, are there.
func (n *Namespace) There(do func()) {
	done := make(chan struct{})
	n.there <- func() { defer close(done); do() }
	<-done
}

// Listen listens at a free port there.
func (n *Namespace) Listen() (ln net.Listener, err error) {
	n.There(func() { ln, err = net.Listen("tcp4", net.JoinHostPort(FarAddr.String(), "0")) })
	return ln, err
}

// Dial connects from there to an address here.
func (n *Namespace) Dial(addr netip.AddrPort) (conn net.Conn, err error) {
	n.There(func() {
		var fd int
		if fd, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0); err != nil {
			return
		}
		file := os.NewFile(uintptr(fd), "far")
		defer file.Close()
		if err = syscall.Connect(fd, &syscall.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())}); err == nil {
			conn, err = net.FileConn(file)
		}
	})
	return conn, err
}

// Close lets the thread go, and with it the namespace.
func (n *Namespace) Close() { close(n.there) }
