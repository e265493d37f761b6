package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"dill/controlplane/consultest"
	"dill/dataplane/dptest"
)

// Consul is killed and comes back: no port closes and no connection drops, be
// it an agent that has forgotten everything or one that reads its data again
// and calls every check critical until it has run.
func TestConsulRestartUnderLoad(t *testing.T) {
	for _, tt := range []struct {
		name    string
		options consultest.Options
	}{
		{"dev agent", consultest.Options{}},
		{"server with data", consultest.Options{Server: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			agent := consultest.New(t, tt.options)
			r := launch(t, fmt.Sprintf("consul.address = %q\n", agent.Addr()))
			healthy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			t.Cleanup(healthy.Close)

			// More ports than the guard's floor, on two instances each.
			var services []consultest.Service
			var ports []netip.AddrPort
			for i := range 5 {
				port := freeAddr(t)
				ports = append(ports, port)
				for j := range 2 {
					s := instance(fmt.Sprintf("web-%d", i), fmt.Sprintf("web-%d-%d", i, j), serve(t, dptest.Echo).Addr(), port)
					s.Checks = append(s.Checks, consultest.HTTP(healthy.URL, 5*time.Second))
					services = append(services, s)
				}
			}
			registerAll := func() {
				t.Helper()
				for _, s := range services {
					must(t, agent.Register(s))
				}
			}
			registerAll()
			r.eventually("all ports are open", func() bool { return strings.Count(r.table(), "──➤") == len(services) })

			load := startLoad(ports)
			defer load.stop()
			load.grow(t)
			agent.Kill()
			r.says(`msg="consul is not current"`)
			load.grow(t)
			must(t, agent.Restart(t.Context()))
			r.says(`msg="consul is current again"`)
			if !tt.options.Server {
				// The catalog is empty until those register again who put the
				// services there.
				load.grow(t)
				registerAll()
			}
			r.eventually("every check has run again", func() bool {
				passing, _, err := agent.Client().Health().State(api.HealthPassing, nil)
				return err == nil && len(passing) == len(services)+1 // serfHealth
			})
			load.grow(t)

			// It is the live catalog again that dill follows.
			hello, port := saying(t, "hello"), freeAddr(t)
			register(t, agent, "late", "late", hello.Addr(), port)
			r.answers(port, "hello")
			load.grow(t)

			if err := load.stop(); err != nil {
				t.Errorf("a connection suffered: %v", err)
			}
			if strings.Contains(r.log.String(), `msg="port closed"`) {
				t.Error("a port was closed")
			}
			t.Logf("%d messages, %d new connections", load.messages.Load(), load.connections.Load())
		})
	}
}

// load keeps one long connection to each port busy and opens new ones all the
// time.
type load struct {
	cancel      context.CancelFunc
	wg          sync.WaitGroup
	messages    atomic.Int64
	connections atomic.Int64
	failed      atomic.Pointer[error] // the first failure
}

func startLoad(ports []netip.AddrPort) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{cancel: cancel}
	for _, port := range ports {
		l.wg.Go(func() { l.report(ctx, l.talk(ctx, port, 1<<62)) })
		l.wg.Go(func() {
			for ctx.Err() == nil {
				if err := l.talk(ctx, port, 1); err != nil {
					l.report(ctx, err)
					return
				}
				l.connections.Add(1)
			}
		})
	}
	return l
}

// report keeps the first error that is not the end of the load itself.
func (l *load) report(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		l.failed.CompareAndSwap(nil, &err)
	}
}

// talk opens a connection and has n messages echoed, a few hundred a second.
func (l *load) talk(ctx context.Context, port netip.AddrPort, n int64) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", port.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	unblock := context.AfterFunc(ctx, func() { conn.Close() })
	defer unblock()
	pace := time.NewTicker(5 * time.Millisecond)
	defer pace.Stop()
	message, echo := bytes.Repeat([]byte("dill"), 64), make([]byte, 256)
	for range n {
		if err := conn.SetDeadline(time.Now().Add(dptest.Patience)); err != nil {
			return err
		}
		if _, err := conn.Write(message); err != nil {
			return fmt.Errorf("%v: %w", port, err)
		}
		if _, err := io.ReadFull(conn, echo); err != nil {
			return fmt.Errorf("%v: %w", port, err)
		}
		if !bytes.Equal(message, echo) {
			return fmt.Errorf("%v: %w", port, errors.New("the echo differs"))
		}
		l.messages.Add(1)
		select {
		case <-pace.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// grow waits until more went through, on old connections and new ones.
func (l *load) grow(t *testing.T) {
	t.Helper()
	messages, connections := l.messages.Load(), l.connections.Load()
	dptest.Eventually(t, "the load goes on", func() bool {
		return l.failed.Load() != nil || l.messages.Load() > messages+1000 && l.connections.Load() > connections+100
	})
}

// stop ends the load and returns what went wrong first.
func (l *load) stop() error {
	l.cancel()
	l.wg.Wait()
	if err := l.failed.Load(); err != nil {
		return *err
	}
	return nil
}
