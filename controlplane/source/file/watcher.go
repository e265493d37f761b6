package file

import (
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// watcher turns the kernel's notifications into hints that the file may have
// changed. The zero value gives none.
type watcher struct {
	path string
	log  *slog.Logger
	fs   *fsnotify.Watcher // nil = no notifications to be had

	dirs  map[string]fs.FileInfo // watched ones, as they were when the watch was set
	names []string               // what the file is called in them
}

// newWatcher returns a watcher that has yet to be aimed. Without notifications
// it says so and is a zero one: the file is polled anyway.
func newWatcher(path string, log *slog.Logger) *watcher {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		log.Warn("no file notifications, polling only", "err", err, "every", pollEvery)
		return &watcher{}
	}
	return &watcher{path: path, log: log, fs: notify, dirs: make(map[string]fs.FileInfo)}
}

func (w *watcher) close() {
	if w.fs != nil {
		w.fs.Close()
	}
}

// events and errors block for ever without notifications.
func (w *watcher) events() <-chan fsnotify.Event {
	if w.fs == nil {
		return nil
	}
	return w.fs.Events
}

func (w *watcher) errors() <-chan error {
	if w.fs == nil {
		return nil
	}
	return w.fs.Errors
}

// aim watches the directories that matter now: the file's, and the one that its
// symbolic links end in. It reports whether a watch was added; what happened
// before that went unseen.
func (w *watcher) aim() (added bool) {
	if w.fs == nil {
		return false
	}
	want := []string{filepath.Dir(w.path)}
	w.names = []string{filepath.Base(w.path)}
	if target, err := filepath.EvalSymlinks(w.path); err == nil {
		if dir := filepath.Dir(target); dir != want[0] {
			want = append(want, dir)
		}
		w.names = append(w.names, filepath.Base(target))
	}
	alive := w.fs.WatchList() // a removed directory leaves it by itself
	for dir, was := range w.dirs {
		now, err := os.Stat(dir)
		if err == nil && os.SameFile(was, now) && slices.Contains(want, dir) && slices.Contains(alive, dir) {
			continue
		}
		delete(w.dirs, dir)
		if slices.Contains(alive, dir) {
			w.fs.Remove(dir) // fails only if it is gone meanwhile
		}
	}
	for _, dir := range want {
		if _, ok := w.dirs[dir]; ok {
			continue
		}
		info, err := os.Stat(dir)
		if err == nil {
			err = w.fs.Add(dir)
		}
		if err != nil {
			w.log.Debug("no file notifications from directory", "dir", dir, "err", err)
			continue
		}
		w.dirs[dir] = info
		added = true
	}
	return added
}

// pause returns how long to wait for more changes after e, 0 if e is none of
// the file's business.
func (w *watcher) pause(e fsnotify.Event) time.Duration {
	switch {
	case e.Has(fsnotify.Create):
		// Of whatever name: it may be a link on the way to the file.
		return pauseReplaced
	case slices.Contains(w.names, filepath.Base(e.Name)):
		return pauseWritten
	}
	return 0
}
