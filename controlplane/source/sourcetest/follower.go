// Package sourcetest runs route sources in tests and waits for what they send.
package sourcetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dill/controlplane/source"
)

// patience is for a machine that is busy with other things.
const patience = 30 * time.Second

// Follower runs a Source and keeps what it sends.
type Follower struct {
	Log *Log // where the source's logger should write

	t    *testing.T
	show func(source.Snapshot) string
	news chan struct{}

	mu  sync.Mutex
	got []source.Snapshot
}

// Follow runs src until the test ends, which must log to log. show writes a
// snapshot for people; it is what UntilShown compares.
func Follow(t *testing.T, src source.Source, log *Log, show func(source.Snapshot) string) *Follower {
	t.Helper()
	f := &Follower{Log: log, t: t, show: show, news: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- src.Run(ctx, f.sink) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v, want the context's error", err)
		}
	})
	return f
}

func (f *Follower) sink(s source.Snapshot) {
	f.mu.Lock()
	f.got = append(f.got, s)
	f.mu.Unlock()
	select {
	case f.news <- struct{}{}:
	default:
	}
}

// All returns every snapshot so far.
func (f *Follower) All() []source.Snapshot {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.got)
}

// Until waits for a newest snapshot that ok likes.
func (f *Follower) Until(what string, ok func(source.Snapshot) bool) source.Snapshot {
	f.t.Helper()
	deadline := time.After(patience)
	for {
		all := f.All()
		if n := len(all); n > 0 && ok(all[n-1]) {
			return all[n-1]
		}
		select {
		case <-f.news:
		case <-deadline:
			var got []string
			for _, s := range all[max(0, len(all)-10):] {
				got = append(got, f.show(s))
			}
			f.t.Fatalf("no snapshot %s within %s; the last are %q; log:\n%s", what, patience, got, f.Log)
		}
	}
}

// UntilShown waits for a newest snapshot that is shown as want.
func (f *Follower) UntilShown(want string) source.Snapshot {
	f.t.Helper()
	return f.Until(fmt.Sprintf("%q", want), func(s source.Snapshot) bool { return f.show(s) == want })
}

// Show writes a snapshot as its services' names, with "!" in front if it
// carries an error, "?" if it is not synced, "~" if it is suspect.
func Show(s source.Snapshot) string {
	var names []string
	for _, svc := range s.Services {
		names = append(names, svc.Name)
	}
	return Marks(s) + strings.Join(names, " ")
}

// Marks is what Show puts in front.
func Marks(s source.Snapshot) string {
	marks := ""
	if s.Err != nil {
		marks += "!"
	}
	if !s.Synced {
		marks += "?"
	}
	if s.Suspect {
		marks += "~"
	}
	return marks
}

// Log is a buffer that a logger and a test may use at the same time.
type Log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
