package file

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"reflect"
	"time"

	"dill/controlplane/source"
	"dill/controlplane/source/routing"
)

const (
	name = "file"

	// pollEvery is the pace of the looks that back the notifications up.
	pollEvery = 2 * time.Second

	// remindEvery is how often a file that stays unusable is mentioned.
	remindEvery = 10 * time.Minute
)

// Source watches one routing file.
type Source struct {
	path   string
	format routing.Format
	watch  bool
	notify bool          // ask the kernel too
	every  time.Duration // pollEvery
	log    *slog.Logger

	// Owned by the goroutine of Run.
	last     stamp // of the newest read, good or bad
	content  [sha256.Size]byte
	snapshot source.Snapshot // as sent, or to be sent first
	current  time.Time       // when the file last held what snapshot says
	reminded time.Time
}

// New returns a source for the routing file at path, whose extension says its
// format. Without watch the file is read once, when it first can be. The file
// need not exist yet.
func New(path string, watch bool, log *slog.Logger) (*Source, error) {
	format, ok := routing.FormatOf(path)
	if !ok {
		return nil, fmt.Errorf("routing file %q: unknown format; want a name that ends in %s", path, routing.Extensions)
	}
	return &Source{
		path:     path,
		format:   format,
		watch:    watch,
		notify:   watch,
		every:    pollEvery,
		log:      log.With("source", name, "path", path),
		snapshot: source.Snapshot{Source: name},
	}, nil
}

// Name implements source.Source.
func (s *Source) Name() string { return name }

// Run implements source.Source. A Source is run once.
func (s *Source) Run(ctx context.Context, sink source.Sink) error {
	w := &watcher{}
	if s.notify {
		w = newWatcher(s.path, s.log)
	}
	defer w.close()
	poll := time.NewTicker(s.every)
	defer poll.Stop()
	var changes burst
	defer changes.stop()

	w.aim() // before the first read, so that no change falls between
	if !s.read(sink, changes.patience()) {
		changes.more(pauseWritten)
	}
	for s.watch || !s.snapshot.Synced {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e := <-w.events():
			if pause := w.pause(e); pause > 0 {
				changes.more(pause)
			}
		case err := <-w.errors():
			s.log.Debug("file notifications lost", "err", err)
			changes.more(pauseWritten)
		case <-poll.C:
			w.aim()
			if !changes.active() && s.changed() {
				changes.more(pauseWritten)
			}
			s.remind()
		case <-changes.over():
			if s.changed() && !s.read(sink, changes.patience()) {
				changes.more(pauseWritten)
				continue
			}
			changes.done()
			if w.aim() && s.changed() {
				changes.more(pauseReplaced)
			}
		}
	}
	<-ctx.Done()
	return ctx.Err()
}

// changed looks whether the file may be another one than was read.
func (s *Source) changed() bool {
	if !look(s.path).same(s.last) {
		return true
	}
	if s.snapshot.Err == nil {
		s.current = time.Now()
	}
	return false
}

// read takes the file's content over, or says why it cannot. With patience it
// leaves a file alone that seems to be in the middle of being written, and
// returns false.
func (s *Source) read(sink source.Sink, patience bool) (done bool) {
	data, seen, err := load(s.path)
	if err != nil {
		s.last = stamp{} // a permission may change without a trace in the stamp
		s.bad(err, sink)
		return true
	}
	if patience && !look(s.path).sameFile(seen) {
		return false
	}
	sum := sha256.Sum256(data)
	if s.snapshot.Synced && sum == s.content {
		s.last = seen
		s.good(s.snapshot.Services, sink)
		return true
	}
	doc, err := routing.Decode(s.format, data)
	if err != nil && patience && seen.at.Sub(seen.info.ModTime()) < pauseWritten {
		return false
	}
	s.last = seen
	if err != nil {
		s.bad(err, sink)
		return true
	}
	s.content = sum
	routing.LogProblems(s.log, doc.Problems)
	s.good(doc.Services, sink)
	return true
}

// good records that the file holds services, and tells the sink if that is
// news.
func (s *Source) good(services []source.Service, sink source.Sink) {
	s.current = time.Now()
	first, recovered := !s.snapshot.Synced, s.snapshot.Err != nil
	if !first && !recovered && reflect.DeepEqual(services, s.snapshot.Services) {
		return
	}
	s.snapshot = source.Snapshot{Source: name, Services: services, Synced: true}
	s.log.Info("routing file read", "services", len(services), "recovered", recovered)
	sink(s.snapshot)
}

// bad records that the file cannot be used and why. The services stay.
func (s *Source) bad(err error, sink source.Sink) {
	err = fmt.Errorf("routing file %s: %w", s.path, err)
	if s.snapshot.Err != nil && s.snapshot.Err.Error() == err.Error() {
		return
	}
	if s.snapshot.Err == nil {
		s.snapshot.StaleSince = s.current
	}
	s.snapshot.Err = err
	s.warn()
	sink(s.snapshot)
}

func (s *Source) remind() {
	if s.snapshot.Err != nil && time.Since(s.reminded) >= remindEvery {
		s.warn()
	}
}

func (s *Source) warn() {
	s.reminded = time.Now()
	if s.snapshot.Synced {
		s.log.Warn("routing file unusable, keeping the last good one", "err", s.snapshot.Err, "since", s.snapshot.StaleSince)
	} else {
		s.log.Warn("routing file unusable, waiting for a good one", "err", s.snapshot.Err)
	}
}
