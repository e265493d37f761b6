package dataplane_test

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"dill/dataplane/dptest"
)

// loadTask is what a test asks of the "load" process, which plays clients and
// backends outside of the process whose memory is measured.
type loadTask struct {
	Do   string // "listen", "echo", "sink", "stall", "bulk", "drop", "messages", "connections", "refusals", "aborts"
	Addr netip.AddrPort
	N    int // connections or messages
	Size int // bytes of a message
}

// loadDone answers each task.
type loadDone struct {
	Bytes int64  // moved in all
	Error string // empty = done
}

// load is the state of a "load" process.
type load struct {
	mu    sync.Mutex
	conns []*dptest.Peer
	fds   []int
}

// do has a "load" process do one task.
func do(t testing.TB, load *dptest.Child, task loadTask) loadDone {
	t.Helper()
	var done loadDone
	load.Tell(t, task)
	load.Hear(t, &done)
	if done.Error != "" {
		t.Fatalf("%s: %s", task.Do, done.Error)
	}
	return done
}

func playLoad(parent *dptest.Parent) {
	var l load
	var task loadTask
	for parent.Hear(&task) {
		var done loadDone
		var err error
		switch task.Do {
		case "listen":
			err = l.listen(task.Addr)
		case "stall":
			done.Bytes, err = l.stall(task.Addr, task.N)
		case "drop":
			l.drop()
		case "echo", "sink":
			err = echoOn(task.Addr, task.Do == "sink")
		case "bulk":
			err = l.bulk(task.Addr, task.N)
		case "messages":
			err = exchange(task.Addr, 16, task.N/16, task.Size)
		case "connections":
			err = connections(task.Addr, 16, task.N/16, task.Size)
		case "refusals":
			err = repeat(16, task.N/16, func() error { return dptest.Rejected(task.Addr, dptest.Socket{}) })
		case "aborts":
			err = repeat(16, task.N/16, func() error { return abort(task.Addr) })
		default:
			err = fmt.Errorf("unknown task %q", task.Do)
		}
		if err != nil {
			done.Error = err.Error()
		}
		parent.Tell(done)
		task = loadTask{}
	}
}

// listen starts a server with small windows that accepts and never reads.
func (l *load) listen(addr netip.AddrPort) error {
	ln, err := listenOn(addr, 8<<10, 1400)
	if err != nil {
		return err
	}
	go func() {
		for {
			fd, _, err := syscall.Accept4(ln, syscall.SOCK_CLOEXEC)
			if err != nil {
				return
			}
			l.mu.Lock()
			l.fds = append(l.fds, fd)
			l.mu.Unlock()
		}
	}()
	return nil
}

// listenOn makes a listening socket with a receive buffer and a maximal segment
// size of its own, 0 for the kernel's choice. The loopback's segments of 64 KiB
// would let the proxy's socket buffers grow to megabytes, and a thousand of
// those bring the machine into TCP memory pressure; those of an Ethernet do not.
func listenOn(addr netip.AddrPort, buffer, segment int) (int, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	if buffer > 0 {
		err = errors.Join(err, syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, buffer))
	}
	if segment > 0 {
		err = errors.Join(err, syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, segment))
	}
	return fd, errors.Join(err,
		syscall.Bind(fd, &syscall.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())}),
		syscall.Listen(fd, 4096))
}

// stall opens n connections, writes into each until nothing goes any more, and
// returns how many bytes that took. A round over all connections without a
// byte ends it: then none of them moves.
func (l *load) stall(addr netip.AddrPort, n int) (int64, error) {
	const most = 64 << 20 // for one connection
	zeros := make([]byte, 64<<10)
	for range n {
		p, err := dptest.Connect(addr, dptest.Socket{SndBuf: 16 << 10})
		if err != nil {
			return 0, err
		}
		l.conns = append(l.conns, p)
	}
	total := int64(0)
	for round := int64(1); round > 0; {
		moved, err := together(n, func(i int) (int64, error) {
			c := l.conns[i].Conn()
			if err := c.SetWriteDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
				return 0, err
			}
			var sent int64
			for sent < most {
				m, err := c.Write(zeros)
				sent += int64(m)
				if dptest.IsTimeout(err) {
					return sent, nil
				}
				if err != nil {
					return sent, err
				}
			}
			return sent, fmt.Errorf("connection %d: nothing held it up", i)
		})
		if err != nil {
			return total, err
		}
		round = moved
		total += moved
	}
	return total, nil
}

// bulk starts n streams that send as fast as they can until "drop".
func (l *load) bulk(addr netip.AddrPort, n int) error {
	for range n {
		p, err := dptest.Connect(addr, dptest.Socket{})
		if err != nil {
			return err
		}
		l.conns = append(l.conns, p)
	}
	zeros := make([]byte, 256<<10)
	for _, p := range l.conns {
		go func() {
			for {
				if _, err := p.Conn().Write(zeros); err != nil {
					return
				}
			}
		}()
	}
	return nil
}

// drop resets everything.
func (l *load) drop() {
	for _, p := range l.conns {
		_ = p.Reset()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, fd := range l.fds {
		_ = syscall.Close(fd)
	}
	l.conns, l.fds = nil, nil
}

// echoOn starts a server that sends everything back, or nothing if it is a sink.
func echoOn(addr netip.AddrPort, sink bool) error {
	ln, err := listenOn(addr, 0, 0)
	if err != nil {
		return err
	}
	go func() {
		for {
			fd, _, err := syscall.Accept4(ln, syscall.SOCK_CLOEXEC)
			if err != nil {
				return
			}
			go func() {
				defer syscall.Close(fd)
				buf := make([]byte, 64<<10)
				for {
					n, err := syscall.Read(fd, buf)
					if n <= 0 || err != nil {
						return
					}
					if sink {
						continue
					}
					if _, err := syscall.Write(fd, buf[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
	return nil
}

// exchange sends n messages over each of width connections, and waits for the
// answer to each.
func exchange(addr netip.AddrPort, width, n, size int) error {
	_, err := together(width, func(int) (int64, error) {
		p, err := dptest.Connect(addr, dptest.Socket{})
		if err != nil {
			return 0, err
		}
		defer p.Close()
		buf := make([]byte, size)
		for range n {
			if err := roundTrip(p, buf); err != nil {
				return 0, err
			}
		}
		return 0, nil
	})
	return err
}

// connections opens n connections on each of width workers, one after the
// other, with one message and its answer on each.
func connections(addr netip.AddrPort, width, n, size int) error {
	return repeat(width, n, func() error {
		p, err := dptest.Connect(addr, dptest.Socket{})
		if err != nil {
			return err
		}
		defer p.Close()
		return roundTrip(p, make([]byte, size))
	})
}

// abort is a client that resets at once.
func abort(addr netip.AddrPort) error {
	p, err := dptest.Connect(addr, dptest.Socket{})
	if err != nil {
		return err
	}
	return p.Reset()
}

// repeat has each of width workers call f n times, one after the other.
func repeat(width, n int, f func() error) error {
	_, err := together(width, func(int) (int64, error) {
		for range n {
			if err := f(); err != nil {
				return 0, err
			}
		}
		return 0, nil
	})
	return err
}

func roundTrip(p *dptest.Peer, buf []byte) error {
	p.Extend(dptest.Patience)
	if _, err := p.Conn().Write(buf); err != nil {
		return err
	}
	for got := 0; got < len(buf); {
		n, err := p.Conn().Read(buf[got:])
		if err != nil {
			return err
		}
		got += n
	}
	return nil
}

// together runs f(0) to f(width-1) at once and returns the sum of what they
// return.
func together(width int, f func(int) (int64, error)) (int64, error) {
	errs := make([]error, width)
	sums := make([]int64, width)
	var wg sync.WaitGroup
	for i := range width {
		wg.Go(func() { sums[i], errs[i] = f(i) })
	}
	wg.Wait()
	var total int64
	for _, n := range sums {
		total += n
	}
	return total, errors.Join(errs...)
}
