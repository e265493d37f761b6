package consul

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"dill/controlplane/regular"
)

// tokenFile makes a file that holds a token.
func tokenFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	must(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// lastToken is the one that the newest request came with.
func (f *fake) lastToken() string {
	seen, _ := f.history()
	return seen[len(seen)-1].Header.Get("X-Consul-Token")
}

func withWeb(f *fake) { f.set("web", entry("web", "web-1", 80)) }

// A token file that vanished is told in the log, now and then, and in what the
// source says of itself; nothing else suffers.
func TestVanishedTokenFileIsTold(t *testing.T) {
	path := tokenFile(t, "first")
	scripted(t, Config{TokenFile: path}, withWeb, func(t *testing.T, f *fake, o *observer) {
		synctest.Wait()
		if s, _ := o.last(); !sized(1)(s) || s.Warning != nil {
			t.Fatalf("snapshot is %s, warning %v", show(s), s.Warning)
		}
		must(t, os.Remove(path))
		time.Sleep(150 * time.Second)
		synctest.Wait()
		s, _ := o.last()
		if !sized(1)(s) || s.Warning == nil || !strings.Contains(s.Warning.Error(), path+": open: no such file") {
			t.Errorf("snapshot is %s, warning %v", show(s), s.Warning)
		}
		if got := o.log.matching("token file cannot be read"); len(got) != 3 {
			t.Errorf("%d lines in two and a half minutes:\n%s", len(got), o.log)
		}
		f.set("api", entry("api", "api-1", 80))
		time.Sleep(time.Second)
		synctest.Wait()
		if s, _ := o.last(); !sized(2)(s) || f.lastToken() != "first" {
			t.Errorf("without the file: %s, asked with %q", show(s), f.lastToken())
		}
		must(t, os.WriteFile(path, []byte("second"), 0o600))
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if s, _ := o.last(); s.Warning != nil || f.lastToken() != "second" {
			t.Errorf("warning %v with a new file, asked with %q", s.Warning, f.lastToken())
		}
		if got := o.log.matching("can be read again"); len(got) != 1 {
			t.Errorf("%d lines tell that the file is back:\n%s", len(got), o.log)
		}
	})
}

// The old token may be revoked in the very moment in which the file gets the new
// one: that is no failure.
func TestTokenRevokedAsItIsReplaced(t *testing.T) {
	path := tokenFile(t, "first")
	guarded := func(f *fake) {
		withWeb(f)
		valid := "first"
		f.answer = func(w http.ResponseWriter, r *http.Request) bool {
			f.mu.Lock()
			defer f.mu.Unlock()
			if len(f.services) > 1 {
				valid = "second"
			}
			if r.Header.Get("X-Consul-Token") == valid {
				return false
			}
			http.Error(w, "ACL not found", http.StatusForbidden)
			return true
		}
	}
	scripted(t, Config{TokenFile: path}, guarded, func(t *testing.T, f *fake, o *observer) {
		time.Sleep(housekeeping / 2)
		synctest.Wait()
		must(t, os.WriteFile(path, []byte("second"), 0o600))
		f.set("api", entry("api", "api-1", 80))
		time.Sleep(housekeeping / 4)
		synctest.Wait()
		if s, _ := o.last(); !sized(2)(s) || len(s.Stale) > 0 || len(o.log.matching("level=WARN")) > 0 {
			t.Errorf("snapshot is %s, stale %v; log:\n%s", show(s), s.Stale, o.log)
		}
	})
}

// A token file that takes for ever to be read holds up neither who asks for the
// token nor the end.
func TestHungTokenFileHoldsNobodyUp(t *testing.T) {
	for _, test := range []struct {
		name string
		good int64  // reads that come back
		want string // the token after that
	}{{"from the start", 0, ""}, {"later", 1, "first"}} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				var reads atomic.Int64
				tok := newToken(Config{TokenFile: "/nowhere"})
				tok.load = func(string) ([]byte, error) {
					if reads.Add(1) > test.good {
						<-release
					}
					return []byte("first"), nil
				}
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan struct{})
				go func() { defer close(ended); tok.follow(ctx) }()
				time.Sleep(time.Minute)
				<-tok.known
				text, err := tok.get()
				if text != test.want || err == nil || !strings.Contains(err.Error(), "takes for ever") || reads.Load() != test.good+1 {
					t.Errorf("the token is %q, %v after %d reads", text, err, reads.Load())
				}
				cancel()
				<-ended
				close(release)
				synctest.Wait()
			})
		})
	}
}

// What is no regular file is not opened: a FIFO would wait for a writer.
func TestTokenFileThatIsAFIFO(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	must(t, syscall.Mkfifo(path, 0o600))
	o := newObserver(t, Config{Address: "http://127.0.0.1:1", TokenFile: path})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = o.Run(ctx, o.sink) }()
	o.await(t, "told", failed("not a regular file"))
	cancel()
	select {
	case <-done:
	case <-time.After(patience):
		t.Error("the source does not end")
	}
}

// A replacement of equal size and time is another token.
func TestTokenFileReplacedUnseen(t *testing.T) {
	path := tokenFile(t, "token-1")
	old := time.Unix(1e9, 0)
	must(t, os.Chtimes(path, old, old))
	tok := newToken(Config{TokenFile: path})
	deadline := time.Now().Add(patience)
	for tok.refresh(); !regular.Look(path).Same(tok.read); tok.refresh() { // until it is beyond doubt
		if time.Now().After(deadline) {
			t.Fatal("the file does not grow old")
		}
		<-time.After(10 * time.Millisecond)
	}
	reads := 0
	load := tok.load
	tok.load = func(path string) ([]byte, error) { reads++; return load(path) }
	if tok.refresh(); reads != 0 {
		t.Error("an unchanged file was read again")
	}
	other := tokenFile(t, "token-2")
	must(t, os.Chtimes(other, old, old))
	must(t, os.Rename(other, path))
	tok.refresh()
	if got, err := tok.get(); got != "token-2" || err != nil {
		t.Errorf("the token is %q, %v", got, err)
	}
}
