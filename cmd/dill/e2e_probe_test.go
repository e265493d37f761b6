package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"sync"
	"testing"
	"time"

	"dill/controlplane/consultest"
	"dill/dataplane/dptest"
)

// talking is a backend that tells everybody text and then echoes: it tells
// probes who answers, and has sessions that can live on.
func talking(t *testing.T, text string) *dptest.Backend {
	t.Helper()
	return serve(t, func(p *dptest.Peer) {
		p.Extend(time.Minute)
		if _, err := io.WriteString(p.Conn(), text); err == nil {
			dptest.Echo(p)
		}
	})
}

// serveOne runs a Consul and dill with these settings besides, and has dill
// serve the instance web-1 of web, the backend one, which tells "one", at port.
func serveOne(t *testing.T, settings string) (agent *consultest.Agent, r *rig, one *dptest.Backend, port netip.AddrPort) {
	t.Helper()
	agent = consultest.New(t, consultest.Options{})
	r = launch(t, fmt.Sprintf("consul.address = %q\n%s", agent.Addr(), settings))
	one, port = talking(t, "one"), freeAddr(t)
	register(t, agent, "web", "web-1", one.Addr(), port)
	r.shows(port, one.Addr())
	return agent, r, one, port
}

// session opens a connection to addr, which must lead to the backend that
// tells this text.
func session(t *testing.T, addr netip.AddrPort, text string) *dptest.Peer {
	t.Helper()
	p := dptest.Dial(t, addr)
	got := make([]byte, len(text))
	if _, err := io.ReadFull(p.Conn(), got); err != nil || string(got) != text {
		t.Fatalf("%v tells %q (%v), want %q", addr, got, err, text)
	}
	p.Mirror()
	return p
}

// goesOn checks that a session is alive, both ways.
func goesOn(t *testing.T, session *dptest.Peer) {
	t.Helper()
	session.Extend(dptest.Patience)
	session.Must(t, dptest.Write(10_000), dptest.Read(10_000))
}

// finishes ends a session the way that ends well: with a FIN each way.
func finishes(t *testing.T, session *dptest.Peer) {
	t.Helper()
	goesOn(t, session)
	session.Must(t, dptest.HalfClose(), dptest.ReadToEOF(session.Got()))
}

// probes connect to a port over and over, one after the other, and notice who
// answers and whether anybody is turned away.
type probes struct {
	addr   netip.AddrPort
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu    sync.Mutex
	heard map[string]int
	last  string
	inRow int // answers in a row that were last
	err   error
}

// probe starts probes of a port that is open. They end with the test, at the
// first of them that fails, or with stop.
func probe(t *testing.T, addr netip.AddrPort) *probes {
	ctx, cancel := context.WithCancel(context.Background())
	p := &probes{addr: addr, cancel: cancel, heard: make(map[string]int)}
	pace := time.NewTicker(5 * time.Millisecond)
	p.wg.Go(func() {
		defer pace.Stop()
		for p.one() {
			select {
			case <-pace.C:
			case <-ctx.Done():
				return
			}
		}
	})
	t.Cleanup(func() { p.stop() })
	return p
}

func (p *probes) one() bool {
	text, err := hear(p.addr)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil && text == "" {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		p.err = fmt.Errorf("a probe of %v suffered after %v: %w", p.addr, p.heard, err)
		return false
	}
	p.heard[text]++
	if text != p.last {
		p.last, p.inRow = text, 0
	}
	p.inRow++
	return true
}

// hear is what addr tells before it ends a session that the client has ended.
func hear(addr netip.AddrPort) (string, error) {
	p, err := dptest.Connect(addr, dptest.Socket{})
	if err != nil {
		return "", err
	}
	defer p.Close()
	if err := p.Conn().CloseWrite(); err != nil {
		return "", err
	}
	text, err := io.ReadAll(p.Conn())
	return string(text), err
}

// hear waits until the last n answers were all text, n of them new.
func (p *probes) hear(t *testing.T, text string, n int) {
	t.Helper()
	p.mu.Lock()
	p.inRow = 0
	p.mu.Unlock()
	dptest.Eventually(t, fmt.Sprintf("%d probes of %v hear %q", n, p.addr, text), func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.err != nil || p.last == text && p.inRow >= n
	})
	must(t, p.failure())
}

// failure is why a probe was refused, reset or not answered, nil if none was.
func (p *probes) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// unharmedUntil checks that no probe fails before end.
func (p *probes) unharmedUntil(t *testing.T, end time.Time) {
	t.Helper()
	dptest.Poll(time.Until(end), func() bool { return p.failure() != nil })
	must(t, p.failure())
}

// stop ends the probes and returns how often they heard what.
func (p *probes) stop() map[string]int {
	p.cancel()
	p.wg.Wait()
	return maps.Clone(p.heard)
}

// only ends the probes, each of which must have been told text.
func (p *probes) only(t *testing.T, text string) {
	t.Helper()
	heard := p.stop()
	must(t, p.failure())
	if len(heard) != 1 || heard[text] == 0 {
		t.Errorf("probes of %v heard %v, want only %q", p.addr, heard, text)
	}
}
