package dataplane_test

import (
	"net"
	"testing"
	"time"

	"golang.org/x/net/nettest"
)

// TestConn holds a connection through dill to what package net promises of any
// connection: deadlines, concurrent use, closing under way.
func TestConn(t *testing.T) {
	eachMode(t, setup{}, func(t *testing.T, r *rig) {
		nettest.TestConn(t, func() (client, server net.Conn, stop func(), err error) {
			c, s := r.open(t)
			for _, p := range []net.Conn{c.Conn(), s.Conn()} {
				if err := p.SetDeadline(time.Time{}); err != nil {
					return nil, nil, nil, err
				}
			}
			stop = func() {
				_ = c.Close()
				_ = s.Close()
			}
			return c.Conn(), s.Conn(), stop, nil
		})
	})
}
