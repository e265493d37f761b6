// Package peer knows the proxies that are compared: how to find each, how to
// configure it fairly, and how to start and end it. "direct" is the absence of
// one.
//
// Every peer gets the same: two threads, loops or workers where it has such a
// number, the same two backends in turn, SO_REUSEPORT and splice where it can.
package peer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
	"time"

	"dill/bench/load"
	"dill/bench/proc"
)

// Peer is one way from the client to the sink.
type Peer interface {
	// Name is the short name: "direct", "floor", "go", "haproxy", "nginx", "dill".
	Name() string

	// Version is what the program says it is.
	Version() string

	// Config is the configuration that Start would use now, as text.
	Config(at Site) string

	// Start starts it and returns when a request has come through.
	Start(ctx context.Context, at Site) (*Running, error)
}

// Site is where and for whom a peer is started.
type Site struct {
	Dir      string           // for its files; removed by the caller
	Listen   netip.AddrPort   // where clients will connect
	Backends []netip.AddrPort // of the sink
	User     *user.User       // whom to run as; nil = whoever runs the benchmark
	Threads  int              // threads, workers or loops
}

// Running is a peer that serves.
type Running struct {
	Targets []netip.AddrPort // where clients connect
	PIDs    []int            // the proxy's processes; none for direct
	Child   *proc.Child      // nil for direct
	Profile bool             // it is dill, of which one may want profiles

	// Counters asks the proxy for its own counters; nil if it has none.
	Counters func(ctx context.Context) (map[string]float64, error)

	stop func()
}

// Stop ends the peer. It may be called twice.
func (r *Running) Stop() {
	if r.stop != nil {
		r.stop()
		r.stop = nil
	}
}

// startLimit is how long a peer may take until a request comes through.
const startLimit = 20 * time.Second

// await returns when a request to c's listener has come through, with c
// running.
func await(ctx context.Context, c *proc.Child, listen netip.AddrPort) (*Running, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("nothing came through %s for %v", listen, startLimit))
	defer cancel()
	err := c.Poll(ctx, 5*time.Millisecond, func() bool { return load.Probe(listen, time.Second) == nil })
	if err != nil {
		c.Stop(0)
		return nil, err
	}
	return &Running{
		Targets: []netip.AddrPort{listen},
		PIDs:    proc.Tree(c.PID()),
		Child:   c,
		stop:    func() { c.Stop(5 * time.Second) },
	}, nil
}

// command returns the command that runs program at the site, as its user. The
// directory that the benchmark runs in may be closed to that user.
func (s Site) command(program string, args ...string) (*exec.Cmd, error) {
	attr, err := credential(s.User)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, args...)
	cmd.SysProcAttr, cmd.Dir = attr, s.Dir
	return cmd, nil
}

// credential returns the process attributes that make a child run as u; as the
// present user when u is nil.
func credential(u *user.User) (*syscall.SysProcAttr, error) {
	if u == nil {
		return nil, nil
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user %s: %w", u.Username, err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user %s: %w", u.Username, err)
	}
	if int(uid) == os.Getuid() {
		return nil, nil
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
}

// handOver gives the site's directory, but not what is in it, to its user.
func (s Site) handOver() error {
	attr, err := credential(s.User)
	if attr == nil || err != nil {
		return err
	}
	return os.Chown(s.Dir, int(attr.Credential.Uid), int(attr.Credential.Gid))
}

// Ports between which FreePorts looks: above what services use, below what
// package consultest takes for its agents.
const (
	lowestPort  = 10_000
	highestPort = 21_000
)

// FreePorts returns the first of n consecutive ports of 127.0.0.1 that nobody
// listens at.
func FreePorts(n int) (uint16, error) {
	for range 100 {
		first := lowestPort + rand.IntN(highestPort-lowestPort-n)
		if allFree(first, n) {
			return uint16(first), nil
		}
	}
	return 0, errors.New("no free ports between 10000 and 21000")
}

func allFree(first, n int) bool {
	for port := first; port < first+n; port++ {
		ln, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			return false
		}
		ln.Close()
	}
	return true
}
