package dptest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// partVariable names the part that a test binary plays when it was started by
// [Spawn] instead of by the go tool.
const partVariable = "DPTEST_PART"

// Child is another process of the same test binary, which plays one part of
// the test: so the allocations, descriptors and CPU time of the test's own
// process are the engine's alone, or the engine's are the child's alone. The
// two talk in lines of JSON.
type Child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
}

// Parent is the child's side of that conversation.
type Parent struct {
	in  *json.Decoder
	out *json.Encoder
}

// Spawn starts the test binary again to play part, one of those given to
// [Main]. The test's cleanup closes the child's input, gives it [Patience] to
// exit and kills it then; a child that exits with an error fails the test.
func Spawn(t testing.TB, part string) *Child {
	t.Helper()
	return spawn(t, part, &syscall.SysProcAttr{})
}

// SpawnIsolated is [Spawn] in a network namespace of the child's own, in which
// it is root and may change sysctls; [RaiseLoopback] makes 127.0.0.1 work
// there. It skips the test on a machine that does not permit it.
func SpawnIsolated(t testing.TB, part string) *Child {
	t.Helper()
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if uid := os.Getuid(); uid != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{HostID: uid, Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	return spawn(t, part, attr)
}

func spawn(t testing.TB, part string, attr *syscall.SysProcAttr) *Child {
	t.Helper()
	attr.Pdeathsig = syscall.SIGKILL
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), partVariable+"="+part, "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = attr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); errors.Is(err, syscall.EPERM) && attr.Cloneflags != 0 {
		in.Close()
		out.Close()
		t.Skip("no network namespaces here: ", err)
	} else if err != nil {
		t.Fatal(err)
	}
	c := &Child{cmd: cmd, in: in, out: json.NewDecoder(bufio.NewReader(out))}
	t.Cleanup(func() {
		c.in.Close()
		overdue := time.AfterFunc(Patience, func() { _ = cmd.Process.Kill() })
		defer overdue.Stop()
		if err := cmd.Wait(); err != nil {
			t.Errorf("child %s: %v", part, err)
		}
	})
	return c
}

// PID is the child's process ID.
func (c *Child) PID() int { return c.cmd.Process.Pid }

// Tell sends v to the child.
func (c *Child) Tell(t testing.TB, v any) {
	t.Helper()
	if err := json.NewEncoder(c.in).Encode(v); err != nil {
		t.Fatalf("tell child: %v", err)
	}
}

// Hear waits for the child's next message and stores it in v, a pointer.
func (c *Child) Hear(t testing.TB, v any) {
	t.Helper()
	if err := c.out.Decode(v); err != nil {
		t.Fatalf("hear child: %v", err)
	}
}

// Tell sends v to the parent.
func (p *Parent) Tell(v any) {
	if err := p.out.Encode(v); err != nil {
		Die("tell parent", err)
	}
}

// Hear waits for the parent's next message and stores it in v, a pointer. It
// reports false when the parent has nothing more to say: then the child returns.
func (p *Parent) Hear(v any) bool {
	err := p.in.Decode(v)
	if err != nil && !errors.Is(err, io.EOF) {
		Die("hear parent", err)
	}
	return err == nil
}

// Die ends a child with a message.
func Die(what string, err error) {
	fmt.Fprintf(os.Stderr, "dptest child: %s: %v\n", what, err)
	os.Exit(1)
}

// RaiseLoopback brings up the loopback device of a fresh network namespace.
func RaiseLoopback() error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	// struct ifreq: 16 bytes of name, then the flags, then what others use.
	request := struct {
		name  [16]byte
		flags uint16
		_     [22]byte
	}{name: [16]byte{'l', 'o'}, flags: syscall.IFF_UP | syscall.IFF_RUNNING}
	_, _, no := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&request)))
	if no != 0 {
		return fmt.Errorf("raise lo: %w", no)
	}
	return nil
}

// playPart does nothing in a process that was not spawned, and does not return
// in one that was.
func playPart(parts map[string]func(*Parent)) {
	name := os.Getenv(partVariable)
	if name == "" {
		return
	}
	play, ok := parts[name]
	if !ok {
		Die("start", fmt.Errorf("no part %q", name))
	}
	play(&Parent{in: json.NewDecoder(os.Stdin), out: json.NewEncoder(os.Stdout)})
	os.Exit(0)
}
