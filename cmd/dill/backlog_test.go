package main

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"syscall"
	"testing"

	"dill/controlplane/config"
)

// unread is a log that nobody reads before the test does: whoever writes waits.
func unread(t *testing.T) (*io.PipeReader, *io.PipeWriter) {
	r, w := io.Pipe()
	t.Cleanup(func() { r.Close() })
	return r, w
}

// A log that nobody reads makes dill neither deaf to signals nor unable to end.
func TestLogThatNobodyReadsHoldsNothingUp(t *testing.T) {
	_, w := unread(t)
	p := begunOn(t, "", w)
	status := make(chan int, 1)
	go func() { status <- p.live(t.Context()) }()
	p.signals <- syscall.SIGHUP
	p.signals <- syscall.SIGTERM
	if got := ended(t, status); got != exitOK {
		t.Errorf("exit status %d", got)
	}
}

// What does not fit is dropped, the rest arrives in order, and how much is
// missing is told.
func TestBacklogIsBounded(t *testing.T) {
	r, w := unread(t)
	l := newLogging(w, config.Log{Level: slog.LevelInfo, Format: "text"}, nil)
	const lines = 40_000 // of more than 60 bytes: more than backlogMost
	for i := range lines {
		l.log.Info("a line of the log", "number", i)
	}
	kept, told := 0, 0
	for in := bufio.NewScanner(r); told == 0 && in.Scan(); {
		if strings.Contains(in.Text(), "a line of the log") {
			if !strings.HasSuffix(in.Text(), fmt.Sprint(" number=", kept)) {
				t.Fatalf("line %d is %q", kept, in.Text())
			}
			kept++
		} else if _, n, ok := strings.Cut(in.Text(), keyDropped+"="); ok {
			_, err := fmt.Sscan(n, &told)
			must(t, err)
		}
	}
	if kept == 0 || told == 0 || kept+told != lines {
		t.Errorf("%d lines arrived and %d are told of as dropped, of %d", kept, told, lines)
	}
	l.flush()
}
