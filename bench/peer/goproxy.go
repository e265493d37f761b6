package peer

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"dill/bench/proc"
)

// Go is what one would write oneself: a goroutine for each direction and
// io.Copy, which splices. It runs as a process of its own, Self with GoArg.
type Go struct {
	Self string // the benchmark's own binary
}

// GoArg is the subcommand that serves; its arguments are the listener's address
// and the backends', separated by commas.
const GoArg = "go-proxy"

func (Go) Name() string       { return "go" }
func (Go) Version() string    { return "net and io.Copy of " + runtime.Version() }
func (Go) Config(Site) string { return "func ServeGo in bench/peer, GOMAXPROCS as Go sets it" }

func (g Go) Start(ctx context.Context, at Site) (*Running, error) {
	var backends []string
	for _, b := range at.Backends {
		backends = append(backends, b.String())
	}
	cmd, err := at.command(g.Self, GoArg, at.Listen.String(), strings.Join(backends, ","))
	if err != nil {
		return nil, err
	}
	c, err := proc.Start("the Go proxy", cmd, nil)
	if err != nil {
		return nil, err
	}
	return await(ctx, c, at.Listen)
}

// ServeGo relays between the clients of listen and backends, in turn, until ctx
// ends. Connections that are open then end with the process.
func ServeGo(ctx context.Context, listen string, backends []string) error {
	for _, b := range backends {
		if _, err := netip.ParseAddrPort(b); err != nil {
			return fmt.Errorf("backend: %w", err)
		}
	}
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	defer ln.Close()
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	var turn atomic.Uint64
	for {
		client, err := ln.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		go relay(client.(*net.TCPConn), backends[turn.Add(1)%uint64(len(backends))])
	}
}

func relay(client *net.TCPConn, addr string) {
	defer client.Close()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	backend := conn.(*net.TCPConn)
	defer backend.Close()
	var both sync.WaitGroup
	both.Go(func() { pass(backend, client) })
	both.Go(func() { pass(client, backend) })
	both.Wait()
}

// pass copies one direction, and its end.
func pass(to, from *net.TCPConn) {
	io.Copy(to, from)
	to.CloseWrite()
}
