package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"dill/dataplane/dptest"
)

func TestMain(m *testing.M) {
	dptest.Isolate()
	goleak.VerifyTestMain(m)
}

func TestPeekBackends(t *testing.T) {
	const table = `127.0.0.1:20001
├ round_robin
├──➤ 127.0.0.1:9001
├──➤ 127.0.0.1:9002
127.0.0.1:20011
├ round_robin
├──➤ 127.0.0.1:9003
`
	for _, tc := range []struct {
		listener string
		want     []string
	}{
		{"127.0.0.1:20001", []string{"127.0.0.1:9001", "127.0.0.1:9002"}},
		{"127.0.0.1:20011", []string{"127.0.0.1:9003"}},
		{"127.0.0.1:2000", nil},
		{"127.0.0.1:9001", nil},
	} {
		if got := peekBackends(table, tc.listener); !slices.Equal(got, tc.want) {
			t.Errorf("peekBackends(%s) = %v, want %v", tc.listener, got, tc.want)
		}
	}
}

func TestRefused(t *testing.T) {
	port, err := freePort() // not an ephemeral one: no dial can connect to itself
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	if refused(l.Addr().String()) {
		t.Error("a listening port counts as refused")
	}
	l.Close()
	if !refused(l.Addr().String()) {
		t.Error("a closed port does not count as refused")
	}
}

func TestAwaitSaysWhatNeverCame(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("no wings"))
	if _, err := await(ctx, "pigs fly", func() bool { return false }); err == nil || err.Error() != "waited in vain until pigs fly: no wings" {
		t.Errorf("await = %v", err)
	}
}

func TestSince(t *testing.T) {
	now := time.Now()
	for d, want := range map[time.Duration]string{
		1234 * time.Microsecond: "1.2 ms",
		12 * time.Millisecond:   "12 ms",
		2 * time.Second:         "2.0 s",
	} {
		if got := since(now, now.Add(d)); got != want {
			t.Errorf("since(%v) = %q, want %q", d, got, want)
		}
	}
}
