package consul

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// reserve is how many connections are never used for watches, so that
	// there is always one for what has to be asked now. A few of them are
	// kept from fetches, for sweeps and Confirm.
	reserve    = 16
	fetchers   = 12
	retriers   = 6 // most of the fetches, and of the watches, that are about services that failed before
	sweepers   = 4
	confirmers = 8

	// streams is how many watches one HTTP/2 connection carries; servers in Go
	// allow 250.
	streams = 100

	// sweepGap is the least time from the end of a sweep to the next, unless
	// there is a riddle: instances without checks are seen within 5 s.
	sweepGap = 4 * time.Second

	// manyNodesFor is for how long it is believed that there are too many nodes
	// to ask each.
	manyNodesFor = time.Minute

	// emptyFor is how long a service may be in the catalog without an
	// instance before that is asked again.
	emptyFor = time.Second

	// maxLag is how far behind the leader a server may be to count as current.
	maxLag = 30 * time.Second

	housekeeping = time.Second
)

// errRenew ends a session that is to start again at once.
var errRenew = errors.New("the token changed")

// session is what is done with one set of connections: one goroutine per watch,
// a few for fetches, and the one of run, which owns everything else. The others
// reach it by post.
type session struct {
	// Constant after newSession.
	src     *Source
	c       *client
	ctx     context.Context // ends with the session
	cancel  context.CancelFunc
	inbox   chan func()
	fatal   chan error    // the first broken connection
	slots   chan struct{} // one for each query that answers at once
	retries chan struct{} // one for each of those about a watched service that failed before
	token   string

	work  sync.WaitGroup
	rest  pacer        // of all watches of services together
	known atomic.Int64 // services in the view
	works atomic.Bool  // something could be read

	belied  atomic.Bool // Consul's last plain word was an empty catalog, and not true
	emptied atomic.Bool // all that was visible was seen to go, see gone

	// Owned by run.
	view       *view
	begun      bool // the catalog was read
	complete   bool // and every service in it was asked for
	catalogErr error
	unread     int  // services without an answer, good or not
	denying    bool // Consul has ACLs, and denies what they do not allow
	budget     int  // watches of services
	direct     int  // of which are held
	shrunk     time.Time
	hungUp     time.Time // on a new connection, the first time of late
	beyond     int       // services that have none

	// The tier beyond the budget.
	queue     []*tracked // to fetch
	flying    int        // fetches under way
	retrying  int        // of those, of services that failed before
	hintStop  context.CancelFunc
	hintKnown bool      // the hint has a state to compare with
	moved     time.Time // catalog changes not swept since, zero = none
	riddle    riddle    // those of them that nothing explains
	pace      sweepPace
	sweeping  bool
	swept     time.Time
	manyNodes time.Time // believed until then
}

// sessionState is a session's part of a tracked service.
type sessionState struct {
	enlisted bool               // counted in unread and in one of the tiers
	settled  bool               // answered, well or not
	err      error              // of the last answer
	told     bool               // err is in the log
	index    uint64             // of the last good answer
	stop     context.CancelFunc // ends the watch; nil beyond the budget
	queued   bool
	flying   bool
	due      time.Time // no fetch before
	retry    backoff
	doubted  bool      // a filtered catalog lacks it
	empty    time.Time // since when Consul says it has no instances
}

func newSession(ctx context.Context, src *Source, c *client, v *view) *session {
	s := &session{
		src: src, c: c, view: v,
		inbox:   make(chan func()),
		fatal:   make(chan error, 1),
		slots:   make(chan struct{}, src.cfg.unwatched()),
		retries: make(chan struct{}, max(min(retriers, src.cfg.unwatched()/2), 1)),
	}
	s.ctx, s.cancel = context.WithCancel(ctx)
	s.token, _ = src.token.get()
	s.known.Store(int64(len(v.services)))
	v.hintErr = nil
	for _, t := range v.services {
		t.sessionState = sessionState{}
	}
	return s
}

// run returns when a connection breaks, with why, or when the context ends.
func (s *session) run() error {
	defer s.c.close()
	defer s.work.Wait()
	defer s.cancel()

	s.work.Go(func() {
		if !s.breaks(s.c.probe(s.ctx)) {
			watch(s, s.ctx, nil, new(pacer).wake, s.askCatalog, s.catalogRead)
		}
	})
	tick := time.NewTicker(housekeeping)
	defer tick.Stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return s.ctx.Err()
		case err := <-s.fatal:
			return err
		case f := <-s.inbox:
			f()
		case <-timer.C:
		case <-tick.C:
			if err := s.housekeep(time.Now()); err != nil {
				return err
			}
		}
		if next := s.step(time.Now()); next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(next))
		}
	}
}

// post runs f on run's goroutine; it reports false when ctx ended first.
func (s *session) post(ctx context.Context, f func()) bool {
	select {
	case s.inbox <- f:
		return true
	case <-ctx.Done():
		return false
	}
}

// breaks ends the session if err means that a connection broke, and reports
// whether it did. All others are suspect then, and none is used again. A new
// connection that is refused next to others that work is not broken.
func (s *session) breaks(err error) bool {
	switch {
	case err == nil, !broken(err):
		return false
	case s.works.Load() && (crowded(err) || errors.Is(err, errHungUp)):
		return false
	}
	select {
	case s.fatal <- err:
	default: // somebody else was first
	}
	return true
}

// alone returns what a failure of a single question is to the session: one that
// breaks no connection, if Consul goes on answering others meanwhile. A query that
// waited for a change may have failed for a partition that is over: it breaks the
// connections, and the next one does not wait.
func (s *session) alone(ctx context.Context, q query, err error) error {
	if q.index > 0 || !broken(err) || crowded(err) || errors.Is(err, errHungUp) || broken(s.c.probe(ctx)) {
		return err
	}
	return errors.New(plain(err).Error())
}

// step does what became possible, tells the sink, and returns when to be
// called again without a reason.
func (s *session) step(now time.Time) (next time.Time) {
	if !s.begun {
		s.conclude(now)
		return s.view.emit(now)
	}
	next = earliest(s.dispatch(now), s.sweepIfDue(now))
	s.conclude(now)
	return earliest(next, s.view.emit(now))
}

// conclude works out whether the source is current. Services that cannot be
// read are stale, each by itself, however many they are: what else changes in
// the catalog is true nevertheless.
func (s *session) conclude(now time.Time) {
	if s.begun && s.unread == 0 {
		s.complete = true
	}
	switch {
	case s.catalogErr != nil:
		s.view.failing(s.catalogErr, now)
	case s.complete:
		s.view.recover(now)
	}
}

// housekeep does what has to be done now and then.
func (s *session) housekeep(now time.Time) error {
	s.view.checkToken(now)
	if text, _ := s.src.token.get(); text != s.token {
		return errRenew
	}
	for _, t := range s.view.services {
		if !t.empty.IsZero() && now.Sub(t.empty) >= emptyFor {
			s.want(t)
		}
	}
	return nil
}

// earliest returns the earlier of two moments, where zero means never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
