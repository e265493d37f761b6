package consul

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/consul/api"
)

func TestCursor(t *testing.T) {
	var c cursor
	for i, step := range []struct {
		index uint64
		wait  uint64 // to ask with next
		back  bool
	}{
		{5, 5, false}, {5, 5, false}, {9, 9, false},
		{8, 0, true}, {8, 8, false},
		{0, 0, true}, {0, 1, false}, {1, 1, false},
	} {
		if back := c.advance(step.index); back != step.back || c.wait != step.wait {
			t.Errorf("step %d: index %d gives back=%v and waits from %d; want %v, %d", i, step.index, back, c.wait, step.back, step.wait)
		}
	}
	c.advance(7)
	c.forget()
	if c.wait != 0 {
		t.Error("it still waits")
	}
	if !c.advance(6) {
		t.Error("what was forgotten is the place, not the history")
	}
}

func TestPacer(t *testing.T) {
	now := time.Unix(0, 0)
	var p pacer
	for i := range freeRate {
		if d := p.wake(now); d != 0 {
			t.Fatalf("wake-up %d rests %v", i, d)
		}
	}
	longest := time.Duration(0)
	for range 1000 {
		d := p.wake(now)
		if d < longest {
			t.Fatalf("rests %v after %v", d, longest)
		}
		longest = d
	}
	if longest != maxPause {
		t.Errorf("rests at most %v, want %v", longest, maxPause)
	}
	if d := p.wake(now.Add(quiet)); d != 0 {
		t.Errorf("rests %v after a quiet second", d)
	}
}

func TestBackoff(t *testing.T) {
	var b backoff
	for i := range 100 {
		d := b.next()
		if d > maxBackoff || d < firstBackoff/2 || i > 10 && d < maxBackoff/2 {
			t.Fatalf("pause %d is %v", i, d)
		}
	}
	b.reset()
	if d := b.next(); d > firstBackoff {
		t.Errorf("the first pause is %v", d)
	}
}

func TestFailures(t *testing.T) {
	refused := &net.OpError{
		Op: "dial", Net: "tcp", Source: &net.TCPAddr{Port: 45678}, Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8500},
		Err: os.NewSyscallError("connect", syscall.ECONNREFUSED),
	}
	for _, test := range []struct {
		err    error
		broken bool
		plain  string
	}{
		{&url.Error{Op: "Get", URL: "http://x/secret", Err: refused}, true, "dial 127.0.0.1:8500: connect: connection refused"},
		{&url.Error{Op: "Get", URL: "http://x", Err: context.DeadlineExceeded}, true, "consul does not answer"},
		{&url.Error{Op: "Get", URL: "http://x/secret", Err: errors.New("EOF")}, true, "EOF"},
		{syscall.ECONNRESET, true, "connection reset by peer"},
		{api.StatusError{Code: 500, Body: "No cluster leader"}, false, "consul answers 500: No cluster leader"},
		{api.StatusError{Code: 500, Body: strings.Repeat("\x00ä", 500)}, false, "consul answers 500: "},
		{errors.New("unexpected EOF"), false, "unexpected EOF"},
	} {
		if got := broken(test.err); got != test.broken {
			t.Errorf("%v: broken is %v", test.err, got)
		}
		got := plain(test.err).Error()
		if !strings.HasPrefix(got, test.plain) || len(got) > 300 || strings.ContainsRune(got, 0) || strings.Contains(got, "secret") || strings.Contains(got, "45678") {
			t.Errorf("%v: plain is %q", test.err, got)
		}
		if again := plain(plain(test.err)).Error(); again != got {
			t.Errorf("plain twice is %q, once %q", again, got)
		}
	}
}

func TestConfigThatCannotWork(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	must(t, os.WriteFile(empty, nil, 0o600))
	for _, test := range []struct {
		cfg  Config
		want string
	}{
		{Config{Address: "ftp://x"}, "want http://"},
		{Config{Address: "localhost:8500"}, "want http://"},
		{Config{Address: "http://"}, "want http://"},
		{Config{Address: "unix://"}, "want http://"},
		{Config{Address: "http://a b"}, "consul address"},
		{Config{Consistency: "perhaps"}, "want default, consistent, stale or leader"},
		{Config{MaxConnections: 18}, "want at least 19"},
		{Config{Wait: time.Millisecond}, "want at least 1s"},
		{Config{Address: "http://x:8500/?token=s3cret"}, "want no ?"},
		{Config{TLS: TLS{CA: "/nowhere"}}, "/nowhere"},
		{Config{TLS: TLS{CA: empty}}, "no PEM certificate"},
		{Config{TLS: TLS{Cert: empty, Key: empty}}, "certificate"},
	} {
		if _, err := New(test.cfg, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v", test.cfg, err)
		}
	}
	for _, address := range []string{"", "http://[::1]:8500", "https://consul.example/prefix", "unix:///run/consul.sock"} {
		if _, err := New(Config{Address: address}, slog.New(slog.DiscardHandler)); err != nil {
			t.Errorf("%q: %v", address, err)
		}
	}
}

// TestSourcePortBlocksNobody shows that a listener can open on a port that the
// connection to Consul has as its source port. Somebody else's connections may
// have the same port, and do block it, so it takes several tries, each to a
// server of its own: connections to one leave from ports that lie close
// together. Without the socket option none succeeds.
func TestSourcePortBlocksNobody(t *testing.T) {
	for range 20 {
		consul, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		defer consul.Close()
		conn, err := dialer("http://"+consul.Addr().String())(t.Context(), "tcp", consul.Addr().String())
		must(t, err)
		ln, err := net.Listen("tcp", conn.LocalAddr().String())
		conn.Close()
		if err == nil {
			ln.Close()
			return
		}
	}
	t.Error("no listener could open on the source port of a connection")
}

func TestEnvironmentDoesNotOverrule(t *testing.T) {
	t.Setenv("CONSUL_HTTP_SSL", "true")
	t.Setenv("CONSUL_HTTP_TOKEN", "of-the-environment")
	cfg := Config{Token: "of-the-configuration"}
	scripted(t, cfg, func(f *fake) { f.set("web", entry("web", "web-1", 80)) }, func(t *testing.T, f *fake, o *observer) {
		synctest.Wait()
		seen, _ := f.history()
		if s, _ := o.last(); !sized(1)(s) {
			t.Fatalf("snapshot is %s", show(s))
		}
		for _, r := range seen {
			if got := r.Header.Values("X-Consul-Token"); len(got) != 1 || got[0] != cfg.Token {
				t.Errorf("asked with tokens %q", got)
			}
		}
	})
}
