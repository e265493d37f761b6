package peek

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"dill/controlplane/endpoint"
	"dill/controlplane/publish"
	"dill/dataplane/route"
)

const (
	// maxClients is how many connections are answered at once. One more cuts
	// the oldest: it had its time, or is one that never reads.
	maxClients = 64

	// writeTimeout bounds the answer to one client. lingerTimeout is how long
	// its input is read and discarded afterwards: closing with unread input
	// would throw away what is still queued for it.
	writeTimeout  = 5 * time.Second
	lingerTimeout = time.Second

	// sendBuffer is what the kernel may hold for one client. Without a bound
	// it would keep megabytes for each that does not read.
	sendBuffer = 64 << 10

	// fresh is how long one rendering serves while nothing was published, or
	// idle times what it took if that is longer: so thousands of clients cost
	// no more than a quarter of a CPU.
	fresh = 50 * time.Millisecond
	idle  = 3

	// acceptPause follows an accept that failed (EMFILE), so that it does not
	// spin.
	acceptPause = 100 * time.Millisecond
)

// Routes says what is published: publish.Publisher.
type Routes interface{ Status() *publish.Status }

// Plane says which listeners of the newest table accept connections:
// dataplane.Engine. A nil error means bound.
type Plane interface {
	Listening() map[netip.AddrPort]error
}

// Keeper says whether what is published can be kept for the next start, and if
// not since when and why: state.File.
type Keeper interface {
	Path() string
	Trouble() (since time.Time, err error)
}

// Server is Peek at one address.
type Server struct {
	Keeper Keeper // nil = nothing is kept; constant once Serve runs

	at  *endpoint.Listener
	log *slog.Logger

	mu      sync.Mutex
	clients []*net.TCPConn // being answered, oldest first

	rendering sync.Mutex      // guards the rest, and is held while rendering
	text      []byte          // the last rendering; shared, never modified
	of        *publish.Status // what it shows
	until     time.Time       // and how long that is good enough
}

// New returns a Server that will answer at at, which it takes over.
func New(at *endpoint.Listener, log *slog.Logger) *Server { return &Server{at: at, log: log} }

// Serve answers until ctx ends, from when the address can be had. Then it closes
// the listener and every connection, and returns when the last one is gone.
func (s *Server) Serve(ctx context.Context, routes Routes, plane Plane) {
	defer s.at.Close()
	listener := s.at.Wait(ctx)
	if listener == nil {
		return
	}
	var running sync.WaitGroup
	defer running.Wait()
	stop := context.AfterFunc(ctx, func() {
		_ = listener.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, c := range s.clients {
			cut(c)
		}
	})
	defer stop()
	failing := false
	for {
		c, err := listener.AcceptTCP()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			if !failing {
				s.log.Warn("peek cannot accept", "err", err)
			}
			failing = true
			select {
			case <-ctx.Done():
			case <-time.After(acceptPause):
			}
			continue
		}
		failing = false
		s.admit(ctx, c)
		running.Go(func() {
			s.answer(c, routes, plane)
			s.dismiss(c)
		})
	}
}

// admit notes a client, at the cost of the oldest when there are too many.
func (s *Server) admit(ctx context.Context, c *net.TCPConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.clients) >= maxClients {
		cut(s.clients[0])
		s.clients = slices.Delete(s.clients, 0, 1)
	}
	s.clients = append(s.clients, c)
	if ctx.Err() != nil {
		cut(c) // accepted while Serve was being stopped
	}
}

// cut ends a connection with what is still queued on it: a client that does
// not read would leave that to the kernel for minutes.
func cut(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}

// dismiss closes a client and forgets it.
func (s *Server) dismiss(c *net.TCPConn) {
	_ = c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.clients, c); i >= 0 {
		s.clients = slices.Delete(s.clients, i, i+1)
	}
}

// answer writes the table to c. Errors are the client's business.
func (s *Server) answer(c *net.TCPConn, routes Routes, plane Plane) {
	text := s.current(routes, plane)
	_ = c.SetWriteBuffer(sendBuffer)
	_ = c.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := c.Write(text); err != nil {
		cut(c)
		return
	}
	if c.CloseWrite() != nil {
		return
	}
	_ = c.SetReadDeadline(time.Now().Add(lingerTimeout))
	_, _ = io.Copy(io.Discard, c)
}

// current returns a rendering of what is published now. Clients that come
// together share one.
func (s *Server) current(routes Routes, plane Plane) []byte {
	s.rendering.Lock()
	defer s.rendering.Unlock()
	status, start := routes.Status(), time.Now()
	if s.of != status || start.After(s.until) {
		s.text = report{status: status, bound: plane.Listening(), keeper: s.Keeper, now: start, mono: route.Now()}.render()
		end := time.Now()
		s.of, s.until = status, end.Add(max(fresh, idle*end.Sub(start)))
	}
	return s.text
}
