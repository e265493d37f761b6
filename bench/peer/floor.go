package peer

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"dill/bench/internal/sock"
	"dill/bench/proc"
)

// Floor is what a proxy cannot do without, and nothing else: on each thread an
// epoll set of its own, and for a message one recv and one send, by raw system
// calls. It has no policy, no timeouts, no counters and no care for slow
// readers. How near a proxy comes to it is what its policy costs. It is a
// process of its own, Self with FloorArg, and for small messages only.
type Floor struct {
	Self string // the benchmark's own binary
}

// FloorArg is the subcommand that serves; its arguments are the listener's
// address, the backends', separated by commas, and the number of threads.
const FloorArg = "floor-proxy"

func (Floor) Name() string       { return "floor" }
func (Floor) Version() string    { return "epoll, recv and send of " + runtime.Version() }
func (Floor) Config(Site) string { return "func ServeFloor in bench/peer" }

func (f Floor) Start(ctx context.Context, at Site) (*Running, error) {
	var backends []string
	for _, b := range at.Backends {
		backends = append(backends, b.String())
	}
	cmd, err := at.command(f.Self, FloorArg, at.Listen.String(), strings.Join(backends, ","), strconv.Itoa(at.Threads))
	if err != nil {
		return nil, err
	}
	c, err := proc.Start("the floor", cmd, nil)
	if err != nil {
		return nil, err
	}
	return await(ctx, c, at.Listen)
}

// ServeFloor relays between the clients of listen and backends, in turn, until
// ctx ends.
func ServeFloor(ctx context.Context, listen, backends, threads string) error {
	addr, err := netip.ParseAddrPort(listen)
	if err != nil {
		return err
	}
	var to []netip.AddrPort
	for b := range strings.SplitSeq(backends, ",") {
		a, err := netip.ParseAddrPort(b)
		if err != nil {
			return fmt.Errorf("backend: %w", err)
		}
		to = append(to, a)
	}
	n, err := strconv.Atoi(threads)
	if err != nil {
		return fmt.Errorf("threads: %w", err)
	}
	runtime.GOMAXPROCS(n + 1) // the waits of the threads below hold a P each
	failed := make(chan error, n)
	for range n {
		fd, err := sock.ListenShared(addr)
		if err != nil {
			return err
		}
		go func() {
			runtime.LockOSThread()
			failed <- (&floorLoop{listener: fd, backends: to}).run()
		}()
	}
	select {
	case <-ctx.Done():
		return nil // and the threads end with the process
	case err := <-failed:
		return err
	}
}

// floorLoop is one thread.
type floorLoop struct {
	set      int
	listener int
	backends []netip.AddrPort
	turn     int
	other    []int32 // by descriptor: the other end of its session
	buf      [64 << 10]byte
}

func (l *floorLoop) run() (err error) {
	if l.set, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	if err := l.watch(l.listener); err != nil {
		return err
	}
	var events [256]unix.EpollEvent
	for {
		n, _, e := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.set), uintptr(unsafe.Pointer(&events)), uintptr(len(events)), ^uintptr(0), 0, 0)
		if e != 0 && e != unix.EINTR {
			return os.NewSyscallError("epoll_wait", e)
		}
		if e != 0 {
			continue
		}
		for i := range events[:n] {
			if fd := int(events[i].Fd); fd != l.listener {
				l.pass(fd)
			} else if err := l.accept(); err != nil {
				return err
			}
		}
	}
}

func (l *floorLoop) watch(fd int) error {
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(l.set, unix.EPOLL_CTL_ADD, fd, &ev))
}

func (l *floorLoop) accept() error {
	client, _, err := unix.Accept4(l.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	if err == unix.EAGAIN {
		return nil
	}
	if err != nil {
		return os.NewSyscallError("accept", err)
	}
	l.turn++
	backend, err := sock.Dial(l.backends[l.turn%len(l.backends)], startLimit)
	if err != nil {
		return err
	}
	for len(l.other) <= max(client, backend) {
		l.other = append(l.other, -1)
	}
	l.other[client], l.other[backend] = int32(backend), int32(client)
	if err := l.watch(client); err != nil {
		return err
	}
	return l.watch(backend)
}

// pass moves what is there to the other end, or ends the session.
func (l *floorLoop) pass(fd int) {
	to := int(l.other[fd])
	if to < 0 {
		return // it ended with the other end's event
	}
	n, _, e := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&l.buf)), uintptr(len(l.buf)), 0, 0, 0)
	if e == unix.EAGAIN {
		return
	}
	if e != 0 || n == 0 {
		l.other[fd], l.other[to] = -1, -1
		unix.Close(fd)
		unix.Close(to)
		return
	}
	sent, _, e := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(to), uintptr(unsafe.Pointer(&l.buf)), n, unix.MSG_NOSIGNAL, 0, 0)
	if e != 0 {
		sent = 0
	}
	if sent < n {
		// Rare: a message fits into an empty socket buffer, and the next one
		// comes only when it was answered. If it fails, reading will tell.
		_ = sock.WriteAll(to, l.buf[sent:n], startLimit)
	}
}
