package nomad

import (
	"cmp"
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

	// remindEvery is how often a Nomad that stays unreachable is mentioned.
	remindEvery = 10 * time.Minute
)

// report is what a loop has to say.
type report struct {
	of      *watched       // nil = the list
	listing []listing      // of the list
	service source.Service // of a service; without instances it is gone
	doubt   bool
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
	err     error // of the newest read
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
	subject string
	log     *slog.Logger
	start   func(*watched) // starts the loop and sets stop

	services map[key]*watched
	listed   bool  // the list was read
	listErr  error // of the newest read of the list
	synced   bool
	suspect  time.Time // until then

	sent     source.Snapshot
	current  time.Time // when all was well
	reminded time.Time
}

func newCatalog(subject string, log *slog.Logger) *catalog {
	return &catalog{subject: subject, log: log, services: make(map[key]*watched)}
}

// take adds what a loop has reported.
func (c *catalog) take(r report) {
	if r.of != nil && c.services[r.of.key] != r.of {
		return // of a loop that was stopped meanwhile
	}
	if r.doubt {
		if !c.isSuspect() {
			c.log.Warn("nomad's state went back, removals have to settle")
		}
		c.suspect = time.Now().Add(suspectFor)
	}
	switch {
	case r.of != nil:
		r.of.err = r.err
		if r.err == nil {
			r.of.service, r.of.read = r.service, true
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
		if !w.read {
			unread++
		}
		if len(w.service.Instances) > 0 {
			s.Services = append(s.Services, w.service)
		}
	}
	sortServices(s.Services)
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
		reflect.DeepEqual(s.Services, c.sent.Services) {
		return s, false
	}
	c.sent = s
	return s, true
}

// err is why the catalog is not current: the list's error, else the first
// service's by name.
func (c *catalog) err() error {
	if c.listErr != nil {
		return fmt.Errorf("%s: %w", c.subject, c.listErr)
	}
	var first *watched
	for _, w := range c.services {
		if w.err != nil && (first == nil || compareKeys(w.key, first.key) < 0) {
			first = w
		}
	}
	if first == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", c.subject, first.err)
}

// tell logs what s says that was not said, and now and then what stays bad.
func (c *catalog) tell(s source.Snapshot) {
	switch {
	case s.Err != nil && (c.sent.Err == nil || time.Since(c.reminded) >= remindEvery):
		c.reminded = time.Now()
		c.log.Warn("nomad not current, keeping what is known", "err", s.Err, "services", len(s.Services), "since", s.StaleSince)
	case s.Err == nil && c.sent.Err != nil:
		c.log.Info("nomad is current again", "services", len(s.Services))
	case s.Synced && !c.sent.Synced:
		c.log.Info("nomad read", "services", len(s.Services))
	}
}

func sortServices(services []source.Service) {
	slices.SortFunc(services, func(a, b source.Service) int { return strings.Compare(a.Name, b.Name) })
}

func compareKeys(a, b key) int {
	return cmp.Or(strings.Compare(a.namespace, b.namespace), strings.Compare(a.name, b.name))
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
