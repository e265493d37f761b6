package dptest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// Main is a package's TestMain: it isolates the run ([Isolate]), plays a [Child]'s part if the process was
// started as one, and otherwise runs the tests and fails if they left a
// goroutine or a file descriptor behind.
func Main(m *testing.M, parts map[string]func(*Parent), opts ...goleak.Option) {
	Isolate()
	playPart(parts)
	warmUp()
	before := openFiles()
	check := goleak.Cleanup(func(code int) {
		// A descriptor can outlive the goroutine that used it by a moment, and
		// package net's own pipes for splice live until the collector has seen
		// them twice.
		var left []string
		if !Poll(5*time.Second, func() bool {
			runtime.GC()
			left = without(openFiles(), before)
			return len(left) == 0
		}) {
			fmt.Fprintf(os.Stderr, "dptest: file descriptors left open: %v\n", left)
			code = max(code, 1)
		}
		os.Exit(code)
	})
	goleak.VerifyTestMain(m, append(opts, check)...)
}

// warmUp makes the runtime open the descriptors that it keeps for good: its
// epoll set and the eventfd in it.
func warmUp() {
	if ln, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		ln.Close()
	}
}

// openFiles returns what every open descriptor of the process refers to, as
// "number target", sorted.
func openFiles() []string {
	const dir = "/proc/self/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var files []string
	for _, e := range entries {
		// The directory's own descriptor is closed by now and has no target.
		if target, err := os.Readlink(dir + "/" + e.Name()); err == nil {
			files = append(files, e.Name()+" "+target)
		}
	}
	slices.Sort(files)
	return files
}

// without returns what is in a and not in b.
func without(a, b []string) []string {
	return slices.DeleteFunc(a, func(s string) bool { return slices.Contains(b, s) })
}

// OpenFiles is how many file descriptors the process has open.
func OpenFiles() int { return len(openFiles()) }

// CPU is the processor time the process has used, user and system together.
func CPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// CPUOf is [CPU] of another process, in steps of the kernel's 10 ms.
func CPUOf(t testing.TB, pid int) time.Duration {
	t.Helper()
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	// The name in field 2 may contain anything; fields 14 and 15 are counted
	// from the parenthesis that ends it.
	var skip string
	var user, system int64
	rest := string(stat[bytes.LastIndexByte(stat, ')')+2:])
	_, err = fmt.Sscan(rest, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &user, &system)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}
