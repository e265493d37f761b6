package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"dill/controlplane/config"
	"dill/dataplane/dptest"
)

// begun is dill within the test, with these settings and a routing file that is
// not there. The test ends it.
func begun(t *testing.T, settings string) (p *process, log *transcript) {
	t.Helper()
	log = new(transcript)
	return begunOn(t, settings, log), log
}

// begunOn is begun with a log of the test's own.
func begunOn(t *testing.T, settings string, log io.Writer) *process {
	t.Helper()
	path := filepath.Join(t.TempDir(), "dill.toml")
	replace(t, path, fmt.Sprintf("file.path = '%s/none.toml'\n%s", t.TempDir(), settings))
	cfg, err := config.LoadWith(path, nil)
	must(t, err)
	logging := newLogging(log, cfg.Log, nil)
	sources, err := newSources(cfg, 1<<20, logging.log)
	must(t, err)
	p, err := start(cfg, nil, sources, logging, new(bytes.Buffer), make(chan os.Signal, 8))
	must(t, err)
	return p
}

// ended is the exit status that live returns.
func ended(t *testing.T, status <-chan int) int {
	t.Helper()
	select {
	case s := <-status:
		return s
	case <-time.After(dptest.Patience):
		t.Fatal("dill does not end")
		return 0
	}
}

// A configuration that cannot be read for now (a network file system that hangs)
// makes dill neither deaf nor unable to end, and the reloads that are asked for
// meanwhile are one.
func TestHangingReloadIsNotWaitedFor(t *testing.T) {
	p, log := begun(t, "")
	reads, release := make(chan string, 8), make(chan struct{})
	defer close(release)
	p.read = func(path string) reading {
		reads <- path
		<-release
		return reading{err: errors.New("no good")}
	}
	status := make(chan int, 1)
	go func() { status <- p.live(t.Context()) }()
	p.signals <- syscall.SIGHUP
	<-reads
	for range 5 {
		p.signals <- syscall.SIGHUP
	}
	release <- struct{}{}
	<-reads // all five are one
	p.signals <- syscall.SIGTERM
	if got := ended(t, status); got != exitOK {
		t.Errorf("exit status %d", got)
	}
	if n := strings.Count(log.String(), "configuration not accepted"); n != 1 || len(reads) > 0 {
		t.Errorf("%d reloads told and %d more begun, want 1 and none:\n%s", n, len(reads), log)
	}
}

// What does not end by itself is left behind by the end.
func TestEndIsBounded(t *testing.T) {
	p, log := begun(t, "")
	stuck := make(chan struct{})
	defer close(stuck)
	p.keeping.wg.Go(func() { <-stuck }) // a write of the state file
	status := make(chan int, 1)
	go func() { status <- p.live(t.Context()) }()
	p.signals <- syscall.SIGTERM
	if got := ended(t, status); got != exitOK {
		t.Errorf("exit status %d", got)
	}
	if !strings.Contains(log.String(), "last good table not saved") {
		t.Errorf("not told:\n%s", log)
	}
}

// After a second signal, what hangs is not waited for either.
func TestSecondSignalWaitsForNothing(t *testing.T) {
	p, _ := begun(t, "")
	stuck := make(chan struct{})
	defer close(stuck)
	for _, s := range []*stage{&p.deciding, &p.keeping, &p.telling} {
		s.wg.Go(func() { <-stuck })
	}
	status := make(chan int, 1)
	go func() { status <- p.live(t.Context()) }()
	began := time.Now()
	p.signals <- syscall.SIGTERM
	p.signals <- syscall.SIGTERM
	p.signals <- syscall.SIGTERM
	if got := ended(t, status); got != exitFailed {
		t.Errorf("exit status %d", got)
	}
	if took := time.Since(began); took >= lastWord {
		t.Errorf("it took %v", took)
	}
}

// The counters are the last that may hang: everything else has ended, and still
// a second signal is heard.
func TestSecondSignalIsHeardToTheLast(t *testing.T) {
	p, _ := begun(t, "")
	stuck := make(chan struct{})
	defer close(stuck)
	p.telling.wg.Go(func() { <-stuck })
	status := make(chan int, 1)
	go func() { status <- p.live(t.Context()) }()
	p.signals <- syscall.SIGTERM
	<-p.telling.ctx.Done()
	began := time.Now()
	p.signals <- syscall.SIGTERM
	if got := ended(t, status); got != exitFailed {
		t.Errorf("exit status %d", got)
	}
	if took := time.Since(began); took >= lastWord {
		t.Errorf("it took %v", took)
	}
}

func TestWithinGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan struct{})
		began := time.Now()
		_, err := within(restoreLimit, func() (int, error) { <-stuck; return 1, nil })
		if err == nil || time.Since(began) != restoreLimit {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		close(stuck)
		if v, err := within(restoreLimit, func() (int, error) { return 1, nil }); v != 1 || err != nil {
			t.Errorf("got %d, %v", v, err)
		}
	})
}

// A FIFO where a file should be (nobody writes to it, so reading it would wait
// for ever) holds up neither the start nor a reload nor the end.
func TestFIFOsHoldNothingUp(t *testing.T) {
	t.Parallel()
	fifo := filepath.Join(t.TempDir(), "routes.toml")
	must(t, syscall.Mkfifo(fifo, 0o600))
	settings := fmt.Sprintf("file.path = %[1]q\nstate.path = %[1]q\nconsul.token_file = %[1]q\n", fifo)
	r := launch(t, settings)
	r.says(`last good table not restored.*not a regular file`)
	r.says(`routing document unusable.*not a regular file`)
	r.says(`consul is not current.*token file.*not a regular file`)
	for _, key := range []string{"consul.tls.ca", "nomad.tls.ca"} {
		r.configure(settings + fmt.Sprintf("%s = %q\n", key, fifo))
		r.signal(syscall.SIGHUP)
		r.says("configuration not accepted.*" + key + ".*not a regular file")
	}
	r.configure(settings)
	r.signal(syscall.SIGHUP)
	r.says(`configuration read again`)
	r.signal(syscall.SIGTERM)
	r.exits(exitOK)
}

// Nobody reads standard output: dill hears signals nevertheless, and ends.
func TestCountersHoldNothingUp(t *testing.T) {
	p, _ := begun(t, "")
	reader, writer := io.Pipe() // holds nothing: whoever writes waits for a reader
	defer reader.Close()
	p.stdout = writer
	status := make(chan int, 1)
	go func() { status <- p.live(t.Context()) }()
	p.signals <- syscall.SIGUSR1
	p.signals <- syscall.SIGUSR1
	p.signals <- syscall.SIGTERM
	if got := ended(t, status); got != exitOK {
		t.Errorf("exit status %d", got)
	}
}
