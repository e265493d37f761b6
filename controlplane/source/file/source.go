package file

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"dill/controlplane/regular"
	"dill/controlplane/source"
	"dill/controlplane/source/routing"
)

const (
	name = "file"

	// pollEvery is the pace of the looks that back the notifications up.
	pollEvery = 2 * time.Second
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
	last regular.Stamp // of the newest read, good or bad
	keep *routing.Keeper
}

// New returns a source for the routing file at path, whose extension says its
// format. Without watch the file is read once, when it first can be. The file
// need not exist yet.
func New(path string, watch bool, log *slog.Logger) (*Source, error) {
	format, ok := routing.FormatOf(path)
	if !ok {
		return nil, fmt.Errorf("routing file %q: %w", path, errFormat)
	}
	log = log.With("source", name)
	return &Source{
		path:   path,
		format: format,
		watch:  watch,
		notify: watch,
		every:  pollEvery,
		log:    log,
		keep:   routing.NewKeeper(name, "routing file "+path, log.With("path", path)),
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
	for s.watch || !s.keep.Synced() {
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
			switch {
			case changes.active():
			case s.changed():
				changes.more(pauseWritten)
			default:
				s.keep.Again()
			}
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
func (s *Source) changed() bool { return !regular.Look(s.path).Same(s.last) }

// read takes the file's content over, or says why it cannot. With patience it
// leaves a file alone that seems to be in the middle of being written, and
// returns false.
func (s *Source) read(sink source.Sink, patience bool) (done bool) {
	data, seen, err := load(s.path)
	if err != nil {
		s.last = regular.Stamp{} // a permission may change without a trace in the stamp
		s.keep.Fail(err, sink)
		return true
	}
	if patience && !regular.Look(s.path).Alike(seen) {
		return false
	}
	err = s.keep.Take(s.format, data, sink)
	if err != nil && patience && seen.Age() < pauseWritten {
		return false
	}
	s.last = seen
	if err != nil {
		s.keep.Fail(err, sink)
	}
	return true
}
