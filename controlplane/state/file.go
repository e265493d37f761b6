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
}

// New names the state file. It touches nothing.
func New(path string, log *slog.Logger) *File {
	return &File{path: path, log: log, wake: make(chan struct{}, 1)}
}

// Load reads the file. No file is an empty State and no error. A damaged one
// is renamed to <path>.damaged-<time>, so that it can be looked at and the
// next start is clean; the error names it, and the State is empty.
func (f *File) Load() (State, error) {
	data, err := regular.Read(f.path, maxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, nil
	}
	if err != nil {
		return State{}, fmt.Errorf("state file %s: %w", f.path, err)
	}
	s, err := decode(data)
	if err == nil {
		return s, nil
	}
	aside := f.path + ".damaged-" + time.Now().UTC().Format("20060102T150405.000000000Z")
	if e := os.Rename(f.path, aside); e != nil {
		return State{}, fmt.Errorf("state file %s is damaged (%w) and cannot be set aside: %w", f.path, err, e)
	}
	return State{}, fmt.Errorf("state file %s is damaged (%w), set aside as %s", f.path, err, aside)
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

// Run writes what Save hands over until ctx ends, then once more if something
// is left. A write that fails is logged and tried again.
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
	err := f.write(*s)
	if err == nil {
		return true
	}
	f.log.Error("state not saved", "path", f.path, "err", err)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pending == nil {
		f.pending = s
	}
	return false
}

// write replaces the file: a temporary one beside it, synced, renamed, and the
// directory synced, since only then the new name is on the disk.
func (f *File) write(s State) error {
	data, err := encode(s)
	if err != nil {
		return fmt.Errorf("encode state: %w", err)
	}
	// Renaming would put a file in the place of a device or a FIFO.
	if info, err := os.Stat(f.path); err == nil && !info.Mode().IsRegular() {
		return regular.ErrNotRegular
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
