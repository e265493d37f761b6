package consul

import (
	"bytes"
	"context"
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

// counted counts connections for as long as they are open, and notes when one
// was not wanted.
func counted(dial dialFunc, open *gauge, crowd *crowd) dialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		open.add(1)
		return &countedConn{Conn: conn, open: open, crowd: crowd}, nil
	}
}

type countedConn struct {
	net.Conn
	open     *gauge
	crowd    *crowd
	closed   atomic.Bool
	answered atomic.Bool // something was read
}

// errCrowded is what comes over a connection that the agent did not want. One
// that allows no more from this address says so before it was asked anything,
// or just hangs up, and neither is something that package http has a name for.
var errCrowded = errors.New("consul allows no more connections from this address")

func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.answered.Load() {
		return n, err
	}
	switch {
	case n > 0:
		c.answered.Store(true)
		if bytes.HasPrefix(p[:n], []byte("HTTP/1.1 429")) {
			c.crowd.note()
			return 0, errCrowded
		}
	case hungUp(err):
		c.crowd.note()
		return 0, errCrowded
	}
	return n, err
}

func (c *countedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if hungUp(err) && !c.answered.Load() {
		c.crowd.note()
		err = errCrowded
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

// crowd remembers when the agent last refused a connection. Package http may
// have another word for what that did to a query.
type crowd struct{ at atomic.Int64 }

func (c *crowd) note() { c.at.Store(time.Now().UnixNano()) }

func (c *crowd) recent() bool { return time.Since(time.Unix(0, c.at.Load())) < 2*time.Second }
