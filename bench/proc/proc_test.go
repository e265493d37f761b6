package proc

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dill/dataplane/dptest"
)

func TestMain(m *testing.M) { dptest.Main(m, nil) }

func TestCPUCounts(t *testing.T) {
	before, err := CPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	own := dptest.CPU()
	for dptest.CPU()-own < 30*time.Millisecond {
	}
	after, err := CPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if used := after - before; used < 25*time.Millisecond || used > 5*time.Second {
		t.Errorf("30 ms of work were measured as %v", used)
	}
	if _, err := CPU(os.Getpid(), 1<<27); err == nil {
		t.Error("the processor time of nobody is known")
	}
}

func TestMemoryAndFiles(t *testing.T) {
	rss, err := RSS(os.Getpid())
	if err != nil || rss < 1<<20 || rss > 1<<34 {
		t.Errorf("RSS %d, %v", rss, err)
	}
	before, err := Files(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if after, err := Files(os.Getpid()); err != nil || after != before+1 {
		t.Errorf("%d files before and %d after one was opened, %v", before, after, err)
	}
	if _, err := RSS(1 << 30); err == nil {
		t.Error("the memory of nobody is known")
	}
}

func TestListening(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := uint16(ln.Addr().(*net.TCPAddr).Port)
	if ports, err := Listening(); err != nil || !ports[port] {
		t.Errorf("port %d is not listed, %v", port, err)
	}
	conn, err := net.Dial("tcp4", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if n, err := ConnectedTo(os.Getpid(), port); err != nil || n != 1 {
		t.Errorf("%d connections to port %d, %v; want 1", n, port, err)
	}
	conn.Close()
	ln.Close()
	if ports, err := Listening(); err != nil || ports[port] {
		t.Errorf("port %d is still listed, %v", port, err)
	}
}

func TestCatches(t *testing.T) {
	c, err := Start("sleep", exec.Command("sleep", "60"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Stop(0)
	if Catches(c.PID(), unix.SIGUSR1) {
		t.Error("sleep has a handler for SIGUSR1")
	}
	if !Catches(os.Getpid(), unix.SIGURG) { // the Go runtime's own
		t.Error("a Go program has none for SIGURG")
	}
}

func TestChildEnds(t *testing.T) {
	c, err := Start("the shell", exec.Command("sh", "-c", "echo out; echo no good >&2; exit 3"), nil)
	if err != nil {
		t.Fatal(err)
	}
	err = c.Wait(t.Context())
	for _, want := range []string{"the shell", "exit status 3", "out", "no good"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}

func TestStopEndsTheWholeGroup(t *testing.T) {
	// The shell ignores the polite request, and has a child.
	c, err := Start("the shell", exec.Command("sh", "-c", "trap '' TERM; sleep 60 & wait; wait"), nil)
	if err != nil {
		t.Fatal(err)
	}
	var tree []int
	if !dptest.Poll(10*time.Second, func() bool { tree = Tree(c.PID()); return len(tree) == 2 }) {
		t.Fatalf("the tree is %v, want two processes", tree)
	}
	c.Stop(20 * time.Millisecond)
	if !dptest.Poll(10*time.Second, func() bool {
		return !slices.ContainsFunc(tree, func(pid int) bool { return syscall.Kill(pid, 0) == nil && state(pid) != "Z" })
	}) {
		t.Error("something of it still runs")
	}
}

// state is the letter in a process's status.
func state(pid int) string {
	text, err := status(pid, "State")
	if err != nil {
		return "Z"
	}
	return text[:1]
}

func TestPoll(t *testing.T) {
	c, err := Start("sleep", exec.Command("sleep", "60"), nil)
	if err != nil {
		t.Fatal(err)
	}
	tries := 0
	if err := c.Poll(t.Context(), time.Millisecond, func() bool { tries++; return tries == 3 }); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Millisecond, errors.New("too late"))
	defer cancel()
	if err := c.Poll(ctx, time.Millisecond, func() bool { return false }); err == nil || !strings.Contains(err.Error(), "too late") {
		t.Errorf("%v, want the cause", err)
	}
	c.Stop(0)
	if err := c.Poll(t.Context(), time.Millisecond, func() bool { return false }); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("%v, want how it ended", err)
	}
}

func TestTee(t *testing.T) {
	lines := make(chan string, 10)
	c, err := Start("the shell", exec.Command("sh", "-c", "printf 'one\\ntw'; printf 'o\\nthree'"), func(l string) { lines <- l })
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(lines)
	var got []string
	for l := range lines {
		got = append(got, l)
	}
	if !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("%q, want the lines that are complete", got)
	}
}

func TestOutput(t *testing.T) {
	out, err := Output(t.Context(), "cat", exec.Command("cat"), []byte("hello"))
	if err != nil || string(out) != "hello" {
		t.Errorf("%q, %v", out, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Output(ctx, "sleep", exec.Command("sleep", "60"), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want context.Canceled", err)
	}
}
