package registry

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"
)

// Counter stands between a dill and a Consul and counts the requests that dill
// makes.
type Counter struct {
	URL string

	server    *http.Server
	transport *http.Transport
	done      sync.WaitGroup
	mu        sync.Mutex
	asked     []time.Time
}

// Count starts a Counter in front of r. Close it.
func (r *Registry) Count() (*Counter, error) {
	to, err := url.Parse(r.URL)
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &Counter{
		URL:       "http://" + ln.Addr().String(),
		transport: &http.Transport{MaxIdleConnsPerHost: 256},
	}
	relay := &httputil.ReverseProxy{
		Rewrite:   func(p *httputil.ProxyRequest) { p.SetURL(to) },
		Transport: c.transport,
		// dill hangs up on its queries when it ends, which is no error.
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	c.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		c.mu.Lock()
		c.asked = append(c.asked, time.Now())
		c.mu.Unlock()
		relay.ServeHTTP(w, q)
	})}
	c.done.Go(func() { _ = c.server.Serve(ln) }) // ends with Close, and says only so
	return c, nil
}

// Between is how many requests came in from one time up to another.
func (c *Counter) Between(from, to time.Time) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, t := range c.asked {
		if !t.Before(from) && t.Before(to) {
			n++
		}
	}
	return n
}

// Quiet waits until no request has come for a while, that is until dill has
// asked for all it wants to know and waits.
func (c *Counter) Quiet(ctx context.Context, pause time.Duration) error {
	for {
		now := time.Now()
		c.mu.Lock()
		quiet := len(c.asked) > 0 && now.Sub(c.asked[len(c.asked)-1]) > pause
		c.mu.Unlock()
		if quiet {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("dill keeps asking Consul: %w", context.Cause(ctx))
		case <-time.After(pause / 4):
		}
	}
}

// Close ends the counter and its connections.
func (c *Counter) Close() {
	_ = c.server.Close() // of a listener of ours: nothing to learn from it
	c.done.Wait()
	c.transport.CloseIdleConnections()
}
