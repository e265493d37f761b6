package dataplane_test

import (
	"net/netip"
	"syscall"
	"testing"
	"time"

	"dill/dataplane"
	. "dill/dataplane/dptest"
)

const tcpUserTimeout = 18 // TCP_USER_TIMEOUT of linux/tcp.h, not in package syscall

// socketBetween finds this process's socket from local to remote: one of dill's.
func socketBetween(t *testing.T, local, remote netip.AddrPort) int {
	t.Helper()
	for fd := range 4096 {
		name, err := syscall.Getsockname(fd)
		if err != nil || address(name) != local {
			continue
		}
		peer, err := syscall.Getpeername(fd)
		if err == nil && address(peer) == remote {
			return fd
		}
	}
	t.Fatalf("no socket from %v to %v", local, remote)
	return -1
}

func address(sa syscall.Sockaddr) netip.AddrPort {
	if four, ok := sa.(*syscall.SockaddrInet4); ok {
		return netip.AddrPortFrom(netip.AddrFrom4(four.Addr), uint16(four.Port))
	}
	return netip.AddrPort{}
}

// TestSocketOptions: keepalive and user timeout are on where the config says
// so, and no leg holds small segments back.
func TestSocketOptions(t *testing.T) {
	r := start(t, setup{cfg: dataplane.Config{KeepAlive: 7 * time.Second, UserTimeout: 9 * time.Second}})
	client, server := r.open(t)
	pingPong(t, client, server)
	clientLeg := socketBetween(t, r.front, client.Local())
	backendLeg := socketBetween(t, server.Remote(), r.backends[0].Addr())
	tests := []struct {
		name          string
		fd            int
		level, option int
		want          int
	}{
		{"keepalive to the client", clientLeg, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1},
		{"its idle time", clientLeg, syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, 7},
		{"user timeout to the client", clientLeg, syscall.IPPROTO_TCP, tcpUserTimeout, 9000},
		{"user timeout to the backend", backendLeg, syscall.IPPROTO_TCP, tcpUserTimeout, 9000},
		{"no delay to the client", clientLeg, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1},
		{"no delay to the backend, after the first segment", backendLeg, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1},
		{"address reuse to the backend", backendLeg, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1},
	}
	for _, test := range tests {
		got, err := syscall.GetsockoptInt(test.fd, test.level, test.option)
		if err != nil || got != test.want {
			t.Errorf("%s is %d, %v; want %d", test.name, got, err, test.want)
		}
	}
}

// TestUpstreamKeepaliveComesWithAge: the backend leg has keepalive once its
// session is 10 s old; a short one is spared the calls.
func TestUpstreamKeepaliveComesWithAge(t *testing.T) {
	r := start(t, setup{cfg: dataplane.Config{KeepAlive: 7 * time.Second, Loops: 1}})
	client, server := r.open(t)
	pingPong(t, client, server)
	leg := socketBetween(t, server.Remote(), r.backends[0].Addr())
	option := func(level, option int) int {
		v, err := syscall.GetsockoptInt(leg, level, option)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	r.inject(t, func() { r.engine.Age(5 * time.Second) })
	Steady(t, 200*time.Millisecond, "a young session has none", func() bool { return option(syscall.SOL_SOCKET, syscall.SO_KEEPALIVE) == 0 })
	r.inject(t, func() { r.engine.Age(5 * time.Second) })
	Within(t, 2*time.Second, "an old one has", func() bool { return option(syscall.SOL_SOCKET, syscall.SO_KEEPALIVE) == 1 })
	if got := option(syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE); got != 7 {
		t.Errorf("its idle time is %d s, want 7", got)
	}
	pingPong(t, client, server)
}

// TestReconfigure: new settings count for what comes after, and running
// sessions are not touched.
func TestReconfigure(t *testing.T) {
	r := start(t, setup{})
	client, server := r.open(t)
	r.engine.Reconfigure(dataplane.Config{MaxConnections: 1})
	Eventually(t, "the limit is in force", func() bool {
		p, err := Connect(r.front, Socket{})
		if err != nil {
			return IsReset(err)
		}
		defer p.Reset()
		_ = p.Conn().SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		return IsReset(p.Run(Read(1)))
	})
	pingPong(t, client, server)
	r.engine.Reconfigure(dataplane.Config{})
	Eventually(t, "the limit is gone", func() bool {
		p, err := Connect(r.front, Socket{})
		if err != nil {
			return false
		}
		defer p.Reset()
		_ = p.Conn().SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		return IsTimeout(p.Run(Read(1))) // served, and the backend is silent
	})
	pingPong(t, client, server)
}

// TestReconfigureReachesRunningSessions: a timeout that was switched on counts
// for sessions that are already idle.
func TestReconfigureReachesRunningSessions(t *testing.T) {
	tests := []struct {
		name string
		end  Op
		cfg  dataplane.Config
	}{
		{"idle", Write(0), dataplane.Config{IdleTimeout: 200 * time.Millisecond}},
		{"half-closed", HalfClose(), dataplane.Config{HalfCloseTimeout: 200 * time.Millisecond}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := start(t, setup{})
			client, server := r.open(t)
			client.Must(t, test.end)
			if test.name == "half-closed" {
				server.Must(t, ReadToEOF(0))
			}
			r.engine.Reconfigure(test.cfg)
			client.Extend(5 * time.Second)
			client.Must(t, ReadToReset(0))
		})
	}
}
