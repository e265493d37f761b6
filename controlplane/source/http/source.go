package http

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"dill/controlplane/source"
	"dill/controlplane/source/outgoing"
	"dill/controlplane/source/routing"
)

const name = "http"

// Source polls one endpoint.
type Source struct {
	endpoint *url.URL
	interval time.Duration
	timeout  time.Duration
	client   *http.Client

	// Owned by the goroutine of Run.
	keep *routing.Keeper
	seen validators // of the document that keep holds
}

// New returns a source that asks endpoint, an http or https URL, every
// interval, and gives one answer timeout to arrive in full.
func New(endpoint string, interval, timeout time.Duration, log *slog.Logger) (*Source, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		// The parser's error would quote the URL.
		return nil, errors.New("routing endpoint: no URL; want http://host[:port]/path or https://…")
	}
	if interval <= 0 || timeout <= 0 {
		return nil, fmt.Errorf("routing endpoint: interval %s, timeout %s; want more than 0", interval, timeout)
	}
	shown := show(u)
	log = log.With("source", name, "endpoint", shown)
	return &Source{
		endpoint: u,
		interval: interval,
		timeout:  timeout,
		client:   newClient(interval, timeout),
		keep:     routing.NewKeeper(name, "routing endpoint "+shown, log),
	}, nil
}

func newClient(interval, timeout time.Duration) *http.Client {
	return &http.Client{
		Transport: located{&http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            outgoing.Dialer(timeout).DialContext,
			ForceAttemptHTTP2:      true,
			MaxIdleConnsPerHost:    1,
			IdleConnTimeout:        2*interval + timeout, // kept from poll to poll
			MaxResponseHeaderBytes: 64 << 10,
		}},
		CheckRedirect: checkRedirect,
	}
}

// show writes an endpoint without its secrets.
func show(u *url.URL) string {
	shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
	text := shown.String()
	if u.User != nil {
		text = u.Scheme + "://***@" + text[len(u.Scheme+"://"):]
	}
	if u.RawQuery != "" {
		text += "?***"
	}
	return text
}

// Name implements source.Source.
func (s *Source) Name() string { return name }

// Run implements source.Source. A Source is run once.
func (s *Source) Run(ctx context.Context, sink source.Sink) error {
	defer s.client.CloseIdleConnections()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
		err := s.poll(ctx, sink)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			s.keep.Fail(err, sink)
			// Nothing that this connection has seen is to be relied on.
			s.client.CloseIdleConnections()
		}
		timer.Reset(jitter(s.interval))
	}
}

// poll asks once, and hands a good answer on.
func (s *Source) poll(ctx context.Context, sink source.Sink) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.timeout, fmt.Errorf("no complete answer within %s", s.timeout))
	defer cancel()
	doc, err := fetch(ctx, s.client, s.endpoint, s.seen)
	switch {
	case err != nil && ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return err
	case doc.unchanged:
		s.keep.Confirm(sink)
		return nil
	}
	if err := s.keep.Take(doc.format, doc.data, sink); err != nil {
		return fmt.Errorf("%s: %w", doc.format, err)
	}
	s.seen = doc.validators
	return nil
}

// Confirm reads the endpoint once more, whatever it said before. The control
// plane asks before it believes that many services are gone at once. It may be
// called from any goroutine.
func (s *Source) Confirm(ctx context.Context) (source.Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	answer, err := fetch(ctx, s.client, s.endpoint, validators{})
	if err != nil {
		return source.Snapshot{}, err
	}
	doc, err := routing.Decode(answer.format, answer.data)
	if err != nil {
		return source.Snapshot{}, fmt.Errorf("%s: %w", answer.format, err)
	}
	return source.Snapshot{Source: name, Services: doc.Services, Synced: true}, nil
}

// jitter spreads polls by a tenth, so that instances of dill started together
// do not ask together for ever.
func jitter(d time.Duration) time.Duration {
	return d - d/20 + rand.N(d/10+1)
}
