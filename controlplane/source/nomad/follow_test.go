package nomad

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dill/controlplane/source"
)

// patience is for a machine that is busy with other things.
const patience = 30 * time.Second

// follower runs a Source and keeps what it sends.
type follower struct {
	t      *testing.T
	source *Source
	log    *logBuffer
	news   chan struct{}

	mu  sync.Mutex
	got []source.Snapshot
}

func newSource(t *testing.T, o Options, log *logBuffer) *Source {
	t.Helper()
	if o.Wait == 0 {
		o.Wait = time.Minute
	}
	s, err := New(o, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// follow runs a Source until the test ends. adjust, if not nil, sees it before.
func follow(t *testing.T, o Options, adjust func(*Source)) *follower {
	t.Helper()
	f := &follower{t: t, log: new(logBuffer), news: make(chan struct{}, 1)}
	f.source = newSource(t, o, f.log)
	if adjust != nil {
		adjust(f.source)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- f.source.Run(ctx, f.sink) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v, want the context's error", err)
		}
	})
	return f
}

func (f *follower) sink(s source.Snapshot) {
	f.mu.Lock()
	f.got = append(f.got, s)
	f.mu.Unlock()
	select {
	case f.news <- struct{}{}:
	default:
	}
}

func (f *follower) all() []source.Snapshot {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.got)
}

// until waits for a newest snapshot that ok likes.
func (f *follower) until(what string, ok func(source.Snapshot) bool) source.Snapshot {
	f.t.Helper()
	deadline := time.After(patience)
	for {
		all := f.all()
		if n := len(all); n > 0 && ok(all[n-1]) {
			return all[n-1]
		}
		select {
		case <-f.news:
		case <-deadline:
			var got []string
			for _, s := range all[max(0, len(all)-10):] {
				got = append(got, show(s))
			}
			f.t.Fatalf("no snapshot %s within %s; the last are\n%s\nlog:\n%s", what, patience, strings.Join(got, "\n"), f.log)
		}
	}
}

// untilShown waits for a newest snapshot that show writes as want.
func (f *follower) untilShown(want string) source.Snapshot {
	f.t.Helper()
	return f.until(fmt.Sprintf("%q", want), func(s source.Snapshot) bool { return show(s) == want })
}

// show writes a snapshot as "web:2 api:1" (services and how many instances they
// have), with "!" in front if it carries an error, "?" if it is not synced, "~"
// if it is suspect.
func show(s source.Snapshot) string {
	var b strings.Builder
	if s.Err != nil {
		b.WriteString("!")
	}
	if !s.Synced {
		b.WriteString("?")
	}
	if s.Suspect {
		b.WriteString("~")
	}
	for i, svc := range s.Services {
		if i > 0 {
			b.WriteString(" ")
		}
		fmt.Fprintf(&b, "%s:%d", svc.Name, len(svc.Instances))
	}
	return b.String()
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
