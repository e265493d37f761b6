// Package endpoint holds the addresses that dill itself answers at, such as
// Peek's. One that somebody else has, or that the host does not have yet, is no
// reason to serve nothing: it stays reserved, and is tried again until it can be
// had.
package endpoint

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// The pause before an address is tried again doubles from firstPause to
// lastPause.
const (
	firstPause = 250 * time.Millisecond
	lastPause  = 5 * time.Second
)

// Attribute keys of this package's log lines.
const (
	attrWho  = "for"
	attrAddr = "addr"
	attrErr  = "err"
)

// Listener is an address to listen on. All methods are safe for all goroutines.
type Listener struct {
	who  string // whom the address is for, as in the settings
	want netip.AddrPort
	log  *slog.Logger

	mu     sync.Mutex
	tcp    *net.TCPListener // nil = not yet
	closed bool
	last   string // error of the newest try
}

// New tries to listen on addr, and says so if that fails: then Wait goes on
// trying. who is the setting that names the address.
func New(who string, addr netip.AddrPort, log *slog.Logger) *Listener {
	l := &Listener{who: who, want: addr, log: log}
	l.try()
	return l
}

// Bound tells whether the address is listened on.
func (l *Listener) Bound() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tcp != nil
}

// Addr is the address listened on, or the one wanted while there is none. They
// differ where port 0 is wanted.
func (l *Listener) Addr() netip.AddrPort {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tcp == nil {
		return l.want
	}
	at := l.tcp.Addr().(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

// Reserved is what no service may claim, whether the address could be had yet
// or not: Addr, and for all addresses of a family those of the other, because
// package net serves both by one socket.
func (l *Listener) Reserved() []netip.AddrPort {
	at := l.Addr()
	if !at.Addr().IsUnspecified() {
		return []netip.AddrPort{at}
	}
	return []netip.AddrPort{
		netip.AddrPortFrom(netip.IPv4Unspecified(), at.Port()),
		netip.AddrPortFrom(netip.IPv6Unspecified(), at.Port()),
	}
}

// Wait returns the socket, which stays l's, as soon as the address can be had,
// or nil when ctx ends before.
func (l *Listener) Wait(ctx context.Context) *net.TCPListener {
	if !l.Bound() {
		l.retry(ctx)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tcp
}

// retry tries until the address is had or ctx ends.
func (l *Listener) retry(ctx context.Context) {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		if l.try() {
			l.log.Info("listening", attrWho, l.who, attrAddr, l.Addr())
			return
		}
	}
}

// try listens once. A failure that reads like the one before is no news.
func (l *Listener) try() bool {
	ln, err := net.Listen("tcp", l.want.String())
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err != nil:
		if text := err.Error(); text != l.last {
			l.last = text
			l.log.Warn("cannot listen, trying again", attrWho, l.who, attrErr, err)
		}
		return false
	case l.closed:
		_ = ln.Close()
		return false
	}
	l.tcp = ln.(*net.TCPListener) // as documented for "tcp"
	return true
}

// Close gives the address up.
func (l *Listener) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.tcp != nil {
		_ = l.tcp.Close()
	}
}
