package consul

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// network is what is between a source and an agent, where it can be cut.
type network struct {
	listener net.Listener
	agent    string

	mu     sync.Mutex
	parted bool
	conns  map[net.Conn]bool
	work   sync.WaitGroup
}

// newNetwork connects whoever comes to the agent at url.
func newNetwork(t *testing.T, url string) *network {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	n := &network{listener: ln, agent: strings.TrimPrefix(url, "http://"), conns: make(map[net.Conn]bool)}
	n.work.Go(n.accept)
	t.Cleanup(func() {
		ln.Close()
		n.mu.Lock()
		for c := range n.conns {
			c.Close()
		}
		n.mu.Unlock()
		n.work.Wait()
	})
	return n
}

func (n *network) addr() string { return "http://" + n.listener.Addr().String() }

func (n *network) accept() {
	for {
		near, err := n.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", n.agent)
		if err != nil {
			near.Close()
			continue
		}
		n.mu.Lock()
		n.conns[near], n.conns[far] = true, true
		l := &link{lost: n.parted}
		n.mu.Unlock()
		n.work.Go(func() { n.carry(l, near, far) })
		n.work.Go(func() { n.carry(l, far, near) })
	}
}

// link is one connection; once a network that is parted swallowed something,
// nothing ever comes through again.
type link struct {
	mu   sync.Mutex
	lost bool
}

func (n *network) carry(l *link, to, from net.Conn) {
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		count, err := from.Read(buf)
		n.mu.Lock()
		parted := n.parted
		n.mu.Unlock()
		l.mu.Lock()
		l.lost = l.lost || parted
		lost := l.lost
		l.mu.Unlock()
		if lost {
			_, _ = io.Copy(io.Discard, from)
			return
		}
		if _, werr := to.Write(buf[:count]); err != nil || werr != nil {
			return
		}
	}
}

func (n *network) part() { n.set(true) }
func (n *network) heal() { n.set(false) }

func (n *network) set(parted bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.parted = parted
}
