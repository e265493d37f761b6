package peek

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dill/controlplane/endpoint"
	"dill/controlplane/publish"
	"dill/dataplane/route"
)

// fixed is Routes and Plane in one: a table on which everything is bound.
type fixed struct {
	status *publish.Status
	asked  atomic.Int32
}

func (f *fixed) Status() *publish.Status { return f.status }

func (f *fixed) Listening() map[netip.AddrPort]error {
	f.asked.Add(1)
	return allBound(f.status.Table)
}

// large is a table whose rendering no socket buffer takes whole.
func large() *fixed {
	var listeners []*route.Listener
	for i := range 2000 {
		l := &route.Listener{Addr: netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(2000+i)), Owner: "consul/x"}
		for j := range 20 {
			l.Backends = append(l.Backends, &route.Backend{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 100, 100, byte(j)}), 80)})
		}
		listeners = append(listeners, l)
	}
	return &fixed{status: &publish.Status{Table: route.NewTable(1, listeners, nil, nil)}}
}

func small() *fixed {
	return &fixed{status: &publish.Status{Table: route.NewTable(1, []*route.Listener{listener("0.0.0.0:4444", "consul/web", "10.0.0.1:80")}, nil, nil)}}
}

const smallText = "0.0.0.0:4444\n├ round_robin\n├──➤ 10.0.0.1:80\n"

// serve runs a server on a free port for the length of the test.
func serve(t *testing.T, on *fixed) *Server {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	s := New(endpoint.New("peek.listener", netip.MustParseAddrPort("127.0.0.1:0"), log), log)
	if !s.at.Bound() {
		t.Fatal("no free port")
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Serve(ctx, on, on)
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Error("Serve does not end")
		}
	})
	return s
}

func dial(t *testing.T, s *Server) net.Conn {
	t.Helper()
	c, err := net.DialTimeout("tcp", s.at.Addr().String(), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	return c
}

func TestConnectingIsEnough(t *testing.T) {
	s := serve(t, small())
	got, err := io.ReadAll(dial(t, s))
	if err != nil || string(got) != smallText {
		t.Errorf("got %q, %v", got, err)
	}
}

// A browser or a script that talks first must get the answer nevertheless:
// closing with its bytes unread would reset the connection.
func TestTalkingClientGetsTheAnswer(t *testing.T) {
	s := serve(t, small())
	for range 50 {
		c := dial(t, s)
		if _, err := c.Write([]byte(strings.Repeat("GET / HTTP/1.1\r\n", 100))); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(c)
		if err != nil || string(got) != smallText {
			t.Fatalf("got %q, %v", got, err)
		}
		_ = c.Close()
	}
}

// Far more clients than are answered at once, none of which reads a byte, and
// an answer that fits no buffer: the next client is served all the same.
func TestClientsThatNeverReadHoldNothingUp(t *testing.T) {
	on := large()
	s := serve(t, on)
	want := len(report{status: on.status, bound: allBound(on.status.Table), now: now}.render())
	for range 3 * maxClients {
		c := dial(t, s)
		_ = c.(*net.TCPConn).SetReadBuffer(4096)
	}
	start := time.Now()
	got, err := io.ReadAll(dial(t, s))
	if err != nil || len(got) != want {
		t.Errorf("got %d bytes of %d, %v", len(got), want, err)
	}
	if d := time.Since(start); d > writeTimeout {
		t.Errorf("took %v behind clients that never read", d)
	}
	s.mu.Lock()
	n := len(s.clients)
	s.mu.Unlock()
	if n > maxClients {
		t.Errorf("%d clients at once", n)
	}
}

func TestManyClientsShareRenderings(t *testing.T) {
	on := small()
	s := serve(t, on)
	var all sync.WaitGroup
	var bad atomic.Int32
	start := time.Now()
	for range 8 {
		all.Go(func() {
			for range 100 {
				c, err := net.Dial("tcp", s.at.Addr().String())
				if err != nil {
					bad.Add(1)
					continue
				}
				got, err := io.ReadAll(c)
				_ = c.Close()
				if err != nil || string(got) != smallText {
					bad.Add(1)
				}
			}
		})
	}
	all.Wait()
	if bad.Load() > 0 {
		t.Errorf("%d of 800 answers are wrong", bad.Load())
	}
	if limit := int32(time.Since(start)/fresh) + 1; on.asked.Load() > limit {
		t.Errorf("%d renderings, want at most %d", on.asked.Load(), limit)
	}
}

// A new table shows at once, however fresh the last rendering is.
func TestPublicationShowsAtOnce(t *testing.T) {
	s := &Server{}
	a, b := small(), &fixed{status: &publish.Status{Table: route.NewTable(0, nil, nil, nil)}}
	if got := string(s.current(a, a)); got != smallText {
		t.Errorf("got %q", got)
	}
	if got := string(s.current(b, b)); !strings.HasPrefix(got, "nothing is served") {
		t.Errorf("got %q", got)
	}
}

func TestServeEndsWithClientsConnected(t *testing.T) {
	s := serve(t, large())
	for range 10 {
		c := dial(t, s)
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	// serve's cleanup fails the test if they hold Serve up.
}
