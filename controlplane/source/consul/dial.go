package consul

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/url"
	"sync/atomic"
	"syscall"
	"time"

	"dill/controlplane/source/outgoing"
)

const dialTimeout = 2 * time.Second

// dialFunc is net.Dialer.DialContext, or what a test has instead.
type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// dialer returns how to connect to address, a URL.
func dialer(address string) dialFunc {
	d := outgoing.Dialer(dialTimeout)
	if u, err := url.Parse(address); err == nil && u.Scheme == "unix" {
		path := u.Host + u.Path
		return func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", path)
		}
	}
	return d.DialContext
}

// counted counts connections for as long as they are open, and notes which of
// them was not wanted.
func counted(dial dialFunc, open *gauge) dialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		open.add(1)
		return &countedConn{Conn: conn, open: open}, nil
	}
}

type countedConn struct {
	net.Conn
	open   *gauge
	closed atomic.Bool
	fate   atomic.Int32
}

// The fates of a connection.
const (
	unanswered int32 = iota
	answered         // something was read
	crowdedOut       // errCrowded was read
	hungUpOn         // it ended before anything was read
)

var (
	// errCrowded is what an agent says over a connection beyond the number it
	// allows from one address, before it was asked anything.
	errCrowded = errors.New("consul allows no more connections from this address")

	// errHungUp is a new connection that ends without a word. Agents before 1.8
	// do that instead, those that are killed do it, and so do proxies.
	errHungUp = errors.New("consul hung up on a new connection")
)

// crowdedText is what agents write, with status 429. Without it, 429 is about the
// rate of requests.
const crowdedText = "too many concurrent connections"

func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.fate.Load() == answered {
		return n, err
	}
	switch {
	case n > 0 && bytes.HasPrefix(p[:n], []byte("HTTP/1.1 429")) && bytes.Contains(p[:n], []byte(crowdedText)):
		c.fate.Store(crowdedOut)
		return 0, errCrowded
	case n > 0:
		c.fate.Store(answered)
	case hungUp(err):
		c.fate.CompareAndSwap(unanswered, hungUpOn)
		return 0, errHungUp
	}
	return n, err
}

func (c *countedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if hungUp(err) && c.fate.CompareAndSwap(unanswered, hungUpOn) {
		err = errHungUp
	}
	return n, err
}

func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func (c *countedConn) Close() error {
	if c.closed.CompareAndSwap(false, true) {
		c.open.add(-1)
	}
	return c.Conn.Close()
}

// unwanted returns what became of the connection that a query failed on, if it
// was not wanted, and else err: package http may have another word for it.
func unwanted(conn net.Conn, err error) error {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	c, ok := conn.(*countedConn)
	if !ok {
		return err
	}
	switch c.fate.Load() {
	case crowdedOut:
		return errCrowded
	case hungUpOn:
		return errHungUp
	}
	return err
}
