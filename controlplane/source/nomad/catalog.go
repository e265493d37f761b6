package nomad

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"dill/controlplane/source"
)

const (
	// suspectFor is how long snapshots are suspect after an answer that was.
	suspectFor = 30 * time.Second

	// remindEvery is how often a Nomad that stays unreachable is mentioned, or
	// services that stay stale, and newsGap is between two new lots of those.
	remindEvery = 10 * time.Minute
	newsGap     = 5 * time.Second
)

// doubt is why the absence of something from an answer proves nothing, "" if it
// does.
type doubt string

const (
	wentBack   doubt = "nomad's state went back, removals have to settle"
	leaderless doubt = "the nomad server that answers knows no leader, removals have to settle"
)

// report is what a loop has to say.
type report struct {
	of      *watched       // nil = the list
	listing []listing      // of the list
	service source.Service // of a service; without instances it is gone
	doubt   doubt
	err     error
}

// watched is a service with a loop of its own.
type watched struct {
	key  key
	stop context.CancelFunc
	poke chan struct{} // capacity 1: the list has changed

	// Owned by the catalog.
	service source.Service // as last read
	read    bool
	err     error     // of the newest read
	good    time.Time // of the newest good one, zero = none
}

// again has the loop read once more if it does not block.
func (w *watched) again() {
	select {
	case w.poke <- struct{}{}:
	default:
	}
}

// catalog is all that the loops have reported. Source.Run's goroutine owns it.
type catalog struct {
	subject   string
	qualified bool // names carry their namespace
	log       *slog.Logger
	start     func(*watched) // starts the loop and sets stop

	services map[key]*watched
	listed   bool  // the list was read
	listErr  error // of the newest read of the list
	synced   bool
	suspect  time.Time // until then

	sent     source.Snapshot
	current  time.Time // when all was well
	reminded time.Time
	warned   time.Time // of stale services
}

func newCatalog(subject string, qualified bool, log *slog.Logger) *catalog {
	return &catalog{subject: subject, qualified: qualified, log: log, services: make(map[key]*watched)}
}

// take adds what a loop has reported.
func (c *catalog) take(r report) {
	if r.of != nil && c.services[r.of.key] != r.of {
		return // of a loop that was stopped meanwhile
	}
	if r.doubt != "" {
		if !c.isSuspect() {
			c.log.Warn(string(r.doubt))
		}
		c.suspect = time.Now().Add(suspectFor)
	}
	switch {
	case r.of != nil:
		r.of.err = r.err
		if r.err == nil {
			r.of.service, r.of.read, r.of.good = r.service, true, time.Now()
		}
	case r.err != nil:
		c.listErr = r.err
	default:
		c.listErr, c.listed = nil, true
		c.list(wanted(r.listing))
	}
}

// list starts and stops loops so that those of want run.
func (c *catalog) list(want map[key]bool) {
	for k, w := range c.services {
		if want[k] {
			w.again()
			continue
		}
		w.stop()
		delete(c.services, k)
	}
	for k := range want {
		if c.services[k] == nil {
			w := &watched{key: k, poke: make(chan struct{}, 1)}
			c.services[k] = w
			c.start(w)
		}
	}
}

func (c *catalog) isSuspect() bool { return time.Now().Before(c.suspect) }

// snapshot returns what is known now, and whether that is news.
func (c *catalog) snapshot() (s source.Snapshot, news bool) {
	s = source.Snapshot{Source: name, Suspect: c.isSuspect(), Err: c.err()}
	unread := 0
	for _, w := range c.services {
		switch {
		case w.err != nil && s.Err == nil:
			s.Stale = append(s.Stale, source.Stale{Service: w.key.text(c.qualified), Err: w.err, Since: w.good})
		case w.err == nil && !w.read:
			unread++
		}
		if len(w.service.Instances) > 0 {
			s.Services = append(s.Services, w.service)
		}
	}
	sortServices(s.Services)
	sortStale(s.Stale)
	c.synced = c.synced || c.listed && unread == 0
	s.Synced = c.synced
	switch {
	case s.Err == nil && !c.synced:
	case s.Err == nil:
		c.current = time.Now()
	case c.sent.Err == nil:
		s.StaleSince = c.current
	default:
		s.StaleSince = c.sent.StaleSince
	}
	c.tell(s)
	if text(s.Err) == text(c.sent.Err) && s.Synced == c.sent.Synced && s.Suspect == c.sent.Suspect &&
		slices.EqualFunc(s.Stale, c.sent.Stale, sameStale) && reflect.DeepEqual(s.Services, c.sent.Services) {
		return s, false
	}
	c.sent = s
	return s, true
}

// err is why the catalog is not current. A service that cannot be read is stale
// by itself and holds up no other.
func (c *catalog) err() error {
	if c.listErr == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", c.subject, c.listErr)
}

// tell logs what s says that was not said, and now and then what stays bad.
func (c *catalog) tell(s source.Snapshot) {
	switch {
	case s.Err != nil && (c.sent.Err == nil || time.Since(c.reminded) >= remindEvery):
		c.reminded = time.Now()
		if s.StaleSince.IsZero() {
			c.log.Warn("nomad cannot be read yet", "err", s.Err)
		} else {
			c.log.Warn("nomad not current, keeping what is known", "err", s.Err, "services", len(s.Services), "since", s.StaleSince)
		}
	case s.Synced && !c.sent.Synced:
		c.log.Info("nomad read", "services", len(s.Services))
	case s.Err == nil && c.sent.Err != nil && s.Synced:
		c.log.Info("nomad is current again", "services", len(s.Services))
	}
	c.tellStale(s.Stale)
}

// tellStale logs that there are stale services, of which some were not, or now
// and then.
func (c *catalog) tellStale(stale []source.Stale) {
	gap := remindEvery
	for _, one := range stale {
		if !slices.ContainsFunc(c.sent.Stale, func(was source.Stale) bool { return was.Service == one.Service }) {
			gap = newsGap
		}
	}
	if len(stale) > 0 && (c.warned.IsZero() || time.Since(c.warned) >= gap) {
		c.warned = time.Now()
		c.log.Warn("services are stale", "services", len(stale), "first", quoted(stale[0].Service), "err", stale[0].Err)
	}
}

func sameStale(a, b source.Stale) bool { return a.Service == b.Service && text(a.Err) == text(b.Err) }

func sortServices(services []source.Service) {
	slices.SortFunc(services, func(a, b source.Service) int { return strings.Compare(a.Name, b.Name) })
}

func sortStale(stale []source.Stale) {
	slices.SortFunc(stale, func(a, b source.Stale) int { return strings.Compare(a.Service, b.Service) })
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// quoted makes foreign text fit for one line of a message.
func quoted(s string) string {
	const most = 64
	return strconv.Quote(s[:min(most, len(s))])
}
