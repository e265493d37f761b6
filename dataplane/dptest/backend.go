package dptest

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Backend is a listening server. Without a handler it hands out what it
// accepted, in order; with one it runs the handler for each connection and
// closes it afterwards.
type Backend struct {
	addr     netip.AddrPort
	socket   Socket
	handle   func(*Peer)
	accepted atomic.Int64

	mu    sync.Mutex
	ln    *net.TCPListener // nil while stopped
	peers map[*Peer]struct{}
	queue chan *Peer
	wg    sync.WaitGroup
}

// maxQueue bounds the connections that wait for [Backend.Accept].
const maxQueue = 4096

// Listen starts a backend without a handler on a free address. The test's
// cleanup stops it and closes what it accepted.
func Listen(t testing.TB) *Backend {
	t.Helper()
	return ListenOn(t, netip.AddrPort{}, Socket{}, nil)
}

// Serve starts a backend whose connections handle serves.
func Serve(t testing.TB, handle func(*Peer)) *Backend {
	t.Helper()
	return ListenOn(t, netip.AddrPort{}, Socket{}, handle)
}

// ListenOn starts a backend with everything given; a nil handle means none, the
// zero address a free one.
func ListenOn(t testing.TB, addr netip.AddrPort, s Socket, handle func(*Peer)) *Backend {
	t.Helper()
	b := &Backend{
		addr: addr, socket: s, handle: handle,
		peers: make(map[*Peer]struct{}),
		queue: make(chan *Peer, maxQueue),
	}
	if addr.IsValid() {
		b.Start(t)
	} else {
		b.startAnywhere(t)
	}
	t.Cleanup(b.StopAll)
	return b
}

// startAnywhere listens at a free address, at another one if it is taken just
// then.
func (b *Backend) startAnywhere(t testing.TB) {
	t.Helper()
	for {
		b.addr = FreeAddr(t)
		switch err := b.start(); {
		case err == nil:
			return
		case !errors.Is(err, syscall.EADDRINUSE):
			t.Fatal(err)
		}
	}
}

// Start listens again after [Backend.Stop].
func (b *Backend) Start(t testing.TB) {
	t.Helper()
	if err := b.start(); err != nil {
		t.Fatal(err)
	}
}

func (b *Backend) start() error {
	cfg := net.ListenConfig{Control: b.socket.control, KeepAlive: -1}
	ln, err := cfg.Listen(context.Background(), "tcp", b.addr.String())
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.ln = ln.(*net.TCPListener)
	b.mu.Unlock()
	b.wg.Go(func() { b.run(ln.(*net.TCPListener)) })
	return nil
}

// Stop closes the listener, so that further connects are refused. What was
// accepted lives on.
func (b *Backend) Stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ln != nil {
		b.ln.Close()
		b.ln = nil
	}
}

// StopAll stops the listener, closes all accepted connections and waits for
// the handlers to return. The test's cleanup does it too.
func (b *Backend) StopAll() {
	b.Stop()
	b.mu.Lock()
	for p := range b.peers {
		p.conn.Close()
	}
	b.mu.Unlock()
	b.wg.Wait()
	// run may have accepted one more after the loop above.
	for p := range b.peers {
		p.conn.Close()
	}
}

func (b *Backend) run(ln *net.TCPListener) {
	for {
		conn, err := ln.AcceptTCP()
		if err != nil {
			return
		}
		p := newPeer(conn, toClient, toServer)
		b.mu.Lock()
		b.peers[p] = struct{}{}
		stopped := b.ln == nil
		b.mu.Unlock()
		b.accepted.Add(1)
		switch {
		case stopped:
			conn.Close()
		case b.handle == nil:
			b.queue <- p
		default:
			b.wg.Go(func() {
				b.handle(p)
				conn.Close()
				b.mu.Lock()
				delete(b.peers, p)
				b.mu.Unlock()
			})
		}
	}
}

// Addr is where the backend listens.
func (b *Backend) Addr() netip.AddrPort { return b.addr }

// Accepted is how many connections the backend has accepted in all.
func (b *Backend) Accepted() int64 { return b.accepted.Load() }

// Accept returns the next accepted connection, or fails the test after
// [Patience].
func (b *Backend) Accept(t testing.TB) *Peer {
	t.Helper()
	timer := time.NewTimer(Patience)
	defer timer.Stop()
	select {
	case p := <-b.queue:
		return p
	case <-timer.C:
		t.Fatalf("backend %v: nobody connected", b.addr)
		return nil
	}
}

// Queue is where [Backend.Accept] takes connections from, to wait for one of
// several backends.
func (b *Backend) Queue() <-chan *Peer { return b.queue }

// Echo is a handler that sends everything back and passes a half-close on.
func Echo(p *Peer) {
	_, _ = io.Copy(p.conn, p.conn)
}

// Hold is a handler that reads and forgets until the client is done.
func Hold(p *Peer) {
	_ = p.conn.SetDeadline(time.Time{})
	_, _ = io.Copy(io.Discard, p.conn)
}

// Say returns a handler that writes text and ends.
func Say(text string) func(*Peer) {
	return func(p *Peer) {
		_, _ = io.WriteString(p.conn, text)
		_ = p.conn.CloseWrite()
		_, _ = io.Copy(io.Discard, p.conn) // closing with unread input would reset
	}
}

// Ask connects to addr and returns all that comes until the end of the stream:
// the counterpart of [Say].
func Ask(addr netip.AddrPort) (string, error) {
	p, err := Connect(addr, Socket{})
	if err != nil {
		return "", err
	}
	defer p.Close()
	text, err := io.ReadAll(p.conn)
	return string(text), err
}
