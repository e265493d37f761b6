package consul

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"dill/controlplane/regular"
)

const (
	// tokenLimit is more than any token has, in bytes.
	tokenLimit = 64 << 10

	// hungAfter is how long a token file may take to be read.
	hungAfter = 2 * time.Second
)

// token is the ACL token, from the configuration or from a file that somebody
// else may replace at any time. Nobody who asks for it waits for the file.
type token struct {
	file  string                            // "" = text is constant
	load  func(path string) ([]byte, error) // regular.Read, or what a test has instead
	known chan struct{}                     // closed once it is known whether the file can be read
	once  sync.Once
	asked chan chan<- struct{} // looks at the file that are wanted now, each to be closed after it

	mu   sync.Mutex
	text string
	err  error // why the file cannot be read, nil if it can

	read regular.Stamp // of the file that text is from; owned by refresh
}

func newToken(cfg Config) *token {
	t := &token{file: cfg.TokenFile, known: make(chan struct{}), asked: make(chan chan<- struct{})}
	t.load = func(path string) ([]byte, error) { return regular.Read(path, tokenLimit) }
	if t.file == "" {
		t.text = cfg.Token
		close(t.known)
	}
	return t
}

// get returns the token. When its file cannot be read it is the last one that
// could be, together with the error.
func (t *token) get() (text string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text, t.err
}

// follow keeps the token as its file is until ctx ends. A read that does not come
// back is left behind, since there is no way to end it.
func (t *token) follow(ctx context.Context) {
	if t.file == "" {
		return
	}
	every := time.NewTicker(housekeeping)
	defer every.Stop()
	var asked chan<- struct{}
	for {
		done := make(chan struct{})
		go func() { defer close(done); t.refresh() }()
		if !t.await(ctx, done) {
			return
		}
		if asked != nil {
			close(asked)
		}
		select {
		case <-every.C:
			asked = nil
		case asked = <-t.asked:
		case <-ctx.Done():
			return
		}
	}
}

// renewed has the file looked at now, for a query that was refused with text, and
// reports whether the token is another one since.
func (t *token) renewed(ctx context.Context, text string) bool {
	if t.file == "" {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, hungAfter)
	defer cancel()
	looked := make(chan struct{})
	select {
	case t.asked <- looked:
	case <-ctx.Done():
		return false
	}
	select {
	case <-looked:
	case <-ctx.Done():
	}
	now, _ := t.get()
	return now != text
}

// await waits for a read of the file; it reports false when ctx ended first.
func (t *token) await(ctx context.Context, done <-chan struct{}) bool {
	hung := time.NewTimer(hungAfter)
	defer hung.Stop()
	for {
		select {
		case <-done:
			return ctx.Err() == nil
		case <-hung.C:
			t.settle("", errors.New("reading it takes for ever"))
		case <-ctx.Done():
			return false
		}
	}
}

// refresh reads the file if it changed.
func (t *token) refresh() {
	now := regular.Look(t.file)
	if _, err := t.get(); err == nil && now.Same(t.read) && now != (regular.Stamp{}) {
		return
	}
	content, err := t.load(t.file)
	text := strings.TrimSpace(string(content))
	if err == nil && text == "" { // or being written
		err = errors.New("empty")
	}
	if err == nil {
		t.read = now
	}
	t.settle(text, err)
}

// settle takes what a read of the file came to.
func (t *token) settle(text string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err = err; err == nil {
		t.text = text
	} else {
		t.err = fmt.Errorf("token file %s: %w", t.file, err)
	}
	t.once.Do(func() { close(t.known) })
}
