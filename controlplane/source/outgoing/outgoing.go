// Package outgoing makes the control plane's connections to the servers it
// asks, in a way that fits a machine on which any port may become a listener.
package outgoing

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// UserTimeout is how long data sent to a server may stay unacknowledged.
const UserTimeout = 15 * time.Second

// Dialer returns a dialer, for TCP and for Unix sockets, that gives up
// connecting after timeout.
//
// Its connections probe a server that fell silent, since one that waits for a
// blocking query sends nothing by itself: a host that is gone is noticed in half
// a minute, not in the kernel's quarter of an hour.
func Dialer(timeout time.Duration) *net.Dialer {
	return &net.Dialer{
		Timeout: timeout,
		KeepAliveConfig: net.KeepAliveConfig{
			Enable:   true,
			Idle:     15 * time.Second,
			Interval: 5 * time.Second,
			Count:    3,
		},
		Control: prepare,
	}
}

// prepare sets up a socket before it connects.
func prepare(network, _ string, raw syscall.RawConn) error {
	if network == "unix" {
		return nil
	}
	var failed error
	err := raw.Control(func(fd uintptr) {
		// Without it, the port that the kernel picks for this connection is
		// one that no listener of dill's can open until the connection ends.
		if failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); failed != nil {
			return
		}
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(UserTimeout.Milliseconds()))
	})
	if err != nil {
		return err
	}
	return failed
}
