package consul

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"dill/controlplane/source"
)

// Name is the name of the source.
const Name = "consul"

// Source watches one Consul. It implements source.Source and
// publish.Confirmer.
type Source struct {
	// Constant after New.
	cfg   Config
	log   *slog.Logger
	dial  dialFunc
	token *token

	counters counters
	current  atomic.Pointer[session]          // nil while there is no connection
	known    atomic.Pointer[[]source.Service] // as last reported, or inherited
}

// New returns a source that does nothing before Run. Its error says what is
// wrong with cfg, which no retry would mend; Consul need not be there.
func New(cfg Config, log *slog.Logger) (*Source, error) {
	if cfg.Wait > MaxWait {
		log.Info("consul waits no longer than it allows", keyWait, cfg.Wait, keyMost, MaxWait)
	}
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	s := &Source{
		cfg:   cfg,
		log:   log,
		dial:  dialer(cfg.Address),
		token: newToken(cfg),
	}
	if u, err := url.Parse(cfg.Address); err == nil {
		s.log = log.With(keyHost, u.Scheme+"://"+u.Host)
	}
	s.known.Store(&[]source.Service{})
	return s, nil
}

// Name implements source.Source.
func (s *Source) Name() string { return Name }

// Inherit implements source.Heir.
func (s *Source) Inherit(services []source.Service) {
	if services != nil {
		s.known.Store(&services)
	}
}

// Counters returns what the source has done so far.
func (s *Source) Counters() Counters { return s.counters.snapshot() }

// Run implements source.Source. It returns ctx's error.
func (s *Source) Run(ctx context.Context, sink source.Sink) error {
	ctx, cancel := context.WithCancel(ctx)
	var beside sync.WaitGroup
	defer beside.Wait()
	defer cancel()
	beside.Go(func() { s.token.follow(ctx) })
	select {
	case <-s.token.known:
	case <-ctx.Done():
		return ctx.Err()
	}
	v := newView(s, sink)
	var failed backoff
	for {
		complete, err := s.connect(ctx, v)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if complete {
			failed.reset()
		}
		if errors.Is(err, errRenew) {
			continue
		}
		v.fail(err, time.Now())
		v.checkToken(time.Now())
		if due := v.emit(time.Now()); !due.IsZero() {
			pause(ctx, time.Until(due))
			v.emit(time.Now())
		}
		if !pause(ctx, failed.next()) {
			return ctx.Err()
		}
	}
}

// connect runs one session, from new connections to the first failure of one.
// complete tells whether everything could be read in between.
func (s *Source) connect(ctx context.Context, v *view) (complete bool, err error) {
	c, err := newClient(s.cfg, s.token, s.dial, &s.counters)
	if err != nil {
		return false, err
	}
	s.counters.sessions.Add(1)
	one := newSession(ctx, s, c, v)
	s.current.Store(one)
	err = one.run()
	s.current.Store(nil)
	return one.complete, err
}

// Confirm reads everything once more, with the word of a quorum for it, beside
// what Run does. The snapshot counts only without an error.
func (s *Source) Confirm(ctx context.Context) (source.Snapshot, error) {
	one := s.current.Load()
	if one == nil {
		return source.Snapshot{}, errors.New("confirm: not connected to consul")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(one.ctx, cancel)()
	services, stale, err := one.confirm(ctx, *s.known.Load())
	if err != nil {
		return source.Snapshot{}, fmt.Errorf("confirm: %w", plain(err))
	}
	return source.Snapshot{Source: Name, Services: services, Synced: true, Stale: stale}, nil
}
