package dataplane

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"dill/dataplane/route"
)

// failures is a table of backends, one for each listener, and what a failureLog
// says of them.
type failures struct {
	table *route.Table
	log   failureLog
	text  bytes.Buffer
	now   int64
}

func newFailures(backends int) *failures {
	var listeners []*route.Listener
	for i := range backends {
		addr := netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(5000+i))
		listeners = append(listeners, &route.Listener{Addr: addr, Backends: []*route.Backend{
			{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, 1}), uint16(80+i))},
		}})
	}
	f := &failures{table: route.NewTable(1, listeners, nil, nil), now: int64(time.Hour)}
	f.log.log = slog.New(slog.NewTextHandler(&f.text, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	return f
}

// fail has the backend of the i-th listener fail once.
func (f *failures) fail(i int) { f.failFor(i, syscall.ECONNREFUSED) }

func (f *failures) failFor(i int, cause syscall.Errno) {
	l := f.table.Listeners[i]
	var tried route.Tried
	l.ConnectFailed(l.Pick(f.now, netip.Addr{}, &tried), &tried, cause, f.now, defaultEjectAfter)
}

func (f *failures) connect(i int) {
	l := f.table.Listeners[i]
	l.ConnectOK(l.Backends[0])
}

// look returns what is said after d.
func (f *failures) look(d time.Duration) string {
	f.now += int64(d)
	f.text.Reset()
	f.log.look(f.now, f.table)
	return f.text.String()
}

// TestFailureIsToldOncePerBackend: a backend that fails is told at the next
// look, again after a minute, two, four …, while clients go on trying it, and
// when it has recovered.
func TestFailureIsToldOncePerBackend(t *testing.T) {
	f := newFailures(1)
	if got := f.look(time.Second); got != "" || f.log.busy() {
		t.Errorf("without a failure: %s", got)
	}
	f.fail(0)
	f.fail(0)
	const line = `level=WARN msg="backend cannot be connected to" listener=0.0.0.0:5000 backend=10.0.0.1:80 err="connection refused" failures=`
	if got, want := f.look(0), line+"2\n"; got != want {
		t.Errorf("told %q, want %q", got, want)
	}
	var told []time.Duration
	for at := time.Second; at <= 10*time.Minute; at += time.Second {
		f.fail(0)
		if got := f.look(time.Second); got != "" {
			told = append(told, at)
		}
	}
	if want := []time.Duration{time.Minute, 3 * time.Minute, 7 * time.Minute}; fmt.Sprint(told) != fmt.Sprint(want) {
		t.Errorf("told again after %v, want %v", told, want)
	}
	if got, want := f.look(5*time.Minute), line+"602 for=15m0s\n"; got != want {
		t.Errorf("told %q, want %q", got, want)
	}
	if got := f.look(time.Hour); got != "" {
		t.Errorf("told again although nobody tried it: %s", got)
	}
	f.connect(0)
	if got, want := f.look(time.Second), "level=INFO msg=\"backend can be connected to again\" listener=0.0.0.0:5000 backend=10.0.0.1:80\n"; got != want {
		t.Errorf("told %q, want %q", got, want)
	}
}

// TestFlappingIsThrottled: a backend that fails and recovers all the time is
// told of once in failureFirst, each way.
func TestFlappingIsThrottled(t *testing.T) {
	f := newFailures(1)
	lines := 0
	for range 3 * int(failureFirst/time.Second) {
		f.fail(0)
		lines += strings.Count(f.look(time.Second/2), "\n")
		f.connect(0)
		lines += strings.Count(f.look(time.Second/2), "\n")
	}
	if lines != 6 {
		t.Errorf("%d lines in 3 minutes of flapping, want 6", lines)
	}
}

// TestManyFailuresHaveTheirTurn: of many backends that fail at once each is told,
// a few at a time, and what has left the table is forgotten.
func TestManyFailuresHaveTheirTurn(t *testing.T) {
	const n = 4*failureLines + 1
	f := newFailures(n)
	for i := range n {
		f.fail(i)
	}
	var all strings.Builder
	for range n/failureLines + 1 {
		got := f.look(time.Second)
		if lines := strings.Count(got, "\n"); lines > failureLines {
			t.Errorf("%d lines at once, want at most %d", lines, failureLines)
		}
		all.WriteString(got)
	}
	for _, l := range f.table.Listeners {
		if strings.Count(all.String(), "listener="+l.Addr.String()) != 1 {
			t.Errorf("the backend of %v was not told once", l.Addr)
		}
	}
	f.table = route.NewTable(2, nil, nil, f.table)
	f.look(time.Second)
	if f.log.busy() {
		t.Errorf("%d backends that are gone are remembered", len(f.log.told))
	}
}

// TestFailureForAnotherReasonIsNews: what was told no longer is why.
func TestFailureForAnotherReasonIsNews(t *testing.T) {
	f := newFailures(1)
	f.failFor(0, syscall.ENETUNREACH)
	if got := f.look(0); !strings.Contains(got, "network is unreachable") {
		t.Fatalf("told %q", got)
	}
	f.failFor(0, syscall.ELOOP)
	if got := f.look(time.Second); got != "" {
		t.Errorf("told at once: %s", got)
	}
	if got := f.look(failureNews); !strings.Contains(got, "come back to dill") {
		t.Errorf("told %q", got)
	}
	f.failFor(0, syscall.ELOOP)
	if got := f.look(failureNews); got != "" {
		t.Errorf("told again: %s", got)
	}
}
