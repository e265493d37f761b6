// Package outgoing makes the control plane's connections to the servers it
// asks, in a way that fits a machine on which any port may become a listener.
package outgoing

import (
	"net"
	"syscall"
	"time"
)

// Dialer returns a dialer that gives up connecting after timeout.
//
// Its sockets carry SO_REUSEADDR: the local port of a connection without it
// blocks a listener that dill opens on that port later. And they probe a peer
// that fell silent: a connection that waits for a blocking query sends nothing
// by itself, so it would not notice a partition before its deadline.
func Dialer(timeout time.Duration) *net.Dialer {
	return &net.Dialer{
		Timeout: timeout,
		KeepAliveConfig: net.KeepAliveConfig{
			Enable:   true,
			Idle:     15 * time.Second,
			Interval: 5 * time.Second,
			Count:    3,
		},
		Control: func(_, _ string, c syscall.RawConn) error {
			var err error
			if failed := c.Control(func(fd uintptr) {
				err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
			}); failed != nil {
				return failed
			}
			return err
		},
	}
}
