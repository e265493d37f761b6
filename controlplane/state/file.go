package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"dill/controlplane/regular"
)

const (
	// delay is how long a change waits for company before it is written. A
	// crash within it costs at most that second of news, which the sources
	// tell again.
	delay = time.Second

	// retry is the pause after a write that failed (disk full, read-only).
	retry = 30 * time.Second

	// maxSize bounds what Load reads. 2,000 services of 10 instances take
	// about 5 MB.
	maxSize = 256 << 20
)

// File is the state on disk. Save may be called from any goroutine; Load is
// called once before Run, and Run once.
type File struct {
	path string
	log  *slog.Logger
	wake chan struct{} // holds a token while pending is news

	mu      sync.Mutex
	pending *State // newest not yet written, nil = none
	trouble error  // why the last write failed, nil if it did not
	since   time.Time
}

// New names the state file. It touches nothing.
func New(path string, log *slog.Logger) *File {
	return &File{path: path, log: log, wake: make(chan struct{}, 1)}
}

// Load reads the file. No file is an empty State and no error. One that is damaged
// or of a later version is renamed to <path>.damaged-<time>, so that it can be
// looked at and the next start is clean; the error names that, and the State is
// empty.
func (f *File) Load() (State, error) {
	data, err := regular.Read(f.path, maxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, nil
	}
	if err != nil {
		return State{}, err
	}
	s, err := decode(data)
	if err == nil {
		return s, nil
	}
	aside := f.path + ".damaged-" + time.Now().UTC().Format("20060102T150405.000000000Z")
	if e := os.Rename(f.path, aside); e != nil {
		return State{}, fmt.Errorf("%w; it cannot be set aside: %w", err, f.explain(e))
	}
	return State{}, fmt.Errorf("%w; set aside as %s", err, aside)
}

// Save hands over the newest State, which nobody may modify from then on. It
// does not block: Run writes it about a second later, or a newer one instead.
func (f *File) Save(s State) {
	f.mu.Lock()
	f.pending = &s
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// Trouble returns why the newest State is not on the disk, and since when that is
// so; nil when it is there, or only waits its second. It may be called from any
// goroutine.
func (f *File) Trouble() (since time.Time, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.since, f.trouble
}

// Path is where the file is.
func (f *File) Path() string { return f.path }

// Run writes what Save hands over until ctx ends, then once more if something
// is left. A write that fails is tried again, and logged if it fails otherwise
// than the one before.
func (f *File) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			f.flush()
			return
		case <-f.wake:
		}
		wait := delay
		for {
			select {
			case <-ctx.Done():
				f.flush()
				return
			case <-time.After(wait):
			}
			if f.flush() {
				break
			}
			wait = retry
		}
	}
}

// flush writes the pending State and reports whether nothing is left to do.
func (f *File) flush() bool {
	f.mu.Lock()
	s := f.pending
	f.pending = nil
	f.mu.Unlock()
	if s == nil {
		return true
	}
	err := f.explain(f.write(*s))
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case err == nil && f.trouble == nil:
		return true
	case err == nil:
		f.log.Info("state is saved again", "path", f.path, "outage", time.Since(f.since).Round(time.Second))
		f.trouble, f.since = nil, time.Time{}
		return true
	case f.trouble == nil:
		f.since = time.Now()
		fallthrough
	case f.trouble.Error() != err.Error():
		f.log.Error("state not saved, a restart would not know the routes", "path", f.path, "err", err)
	}
	f.trouble = err
	if f.pending == nil {
		f.pending = s
	}
	return false
}

// Check tries to write where Run will, and leaves nothing behind. Its error does
// not name the file.
func (f *File) Check() error {
	return f.explain(f.try())
}

func (f *File) try() error {
	if err := f.replaceable(); err != nil {
		return err
	}
	// Not the name that a running dill writes to.
	out, err := os.CreateTemp(filepath.Dir(f.path), filepath.Base(f.path)+".check-")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name())
	_, err = out.Write(make([]byte, os.Getpagesize())) // an empty file fits on a full disk
	if err == nil {
		err = out.Sync()
	}
	if e := out.Close(); err == nil {
		err = e
	}
	return err
}

// replaceable is nil unless renaming would put a file in the place of a device, a
// FIFO or a directory.
func (f *File) replaceable() error {
	if info, err := os.Stat(f.path); err == nil && !info.Mode().IsRegular() {
		return regular.ErrNotRegular
	}
	return nil
}

// explain says what is wrong with the directory, which is what an operator can
// mend, rather than with a temporary file in it.
func (f *File) explain(err error) error {
	dir := filepath.Dir(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no directory %s", dir)
	}
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("cannot write in %s: %w", dir, p.Err)
	}
	if l, ok := errors.AsType[*os.LinkError](err); ok {
		return fmt.Errorf("cannot write in %s: %w", dir, l.Err)
	}
	return err
}

// write replaces the file: a temporary one beside it, synced, renamed, and the
// directory synced, since only then the new name is on the disk.
func (f *File) write(s State) error {
	data, err := encode(s)
	if err != nil {
		return fmt.Errorf("encode state: %w", err)
	}
	if err := f.replaceable(); err != nil {
		return err
	}
	// One fixed name: a crash leaves at most one such file, and the next
	// write takes it away. O_EXCL so that the mode is surely ours.
	tmp := f.path + ".tmp"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	out, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, bytes.NewReader(data))
	if err == nil {
		err = out.Sync()
	}
	if e := out.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(tmp, f.path)
	}
	if err != nil {
		_ = os.Remove(tmp)
		return err
	}
	dir, err := os.Open(filepath.Dir(f.path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
