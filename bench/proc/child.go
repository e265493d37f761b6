package proc

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Child is a process that this one started. It ends at the latest with it.
type Child struct {
	Name string

	cmd   *exec.Cmd
	out   tail
	ended chan struct{} // closed when err is set
	err   error
}

// Start starts cmd in a process group of its own, so that Ctrl-C at the
// terminal reaches only the parent, which then ends everything in order. The
// end of what the child writes to stderr, and to stdout where cmd leaves that
// open, is kept for messages; every line of stderr also goes to tee unless that
// is nil.
func Start(name string, cmd *exec.Cmd, tee func(line string)) (*Child, error) {
	c := &Child{Name: name, cmd: cmd, ended: make(chan struct{})}
	c.out.tee = tee
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	cmd.Stderr = &c.out
	if cmd.Stdout == nil {
		cmd.Stdout = &c.out
	}
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		c.err = cmd.Wait()
		close(c.ended)
	}()
	return c, nil
}

// PID returns the process's number.
func (c *Child) PID() int { return c.cmd.Process.Pid }

// Signal sends sig to the process.
func (c *Child) Signal(sig syscall.Signal) error { return c.cmd.Process.Signal(sig) }

// Ended is closed when the process has ended; Err is why.
func (c *Child) Ended() <-chan struct{} { return c.ended }

// Err tells how the process ended, with the last it wrote. Call it after Ended.
func (c *Child) Err() error {
	<-c.ended
	if c.err == nil {
		return fmt.Errorf("%s ended by itself%s", c.Name, c.out.quote())
	}
	return fmt.Errorf("%s: %w%s", c.Name, c.err, c.out.quote())
}

// Wait waits for the process to end by itself with status 0.
func (c *Child) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		c.Stop(0)
		return ctx.Err()
	case <-c.ended:
	}
	if c.err != nil {
		return c.Err()
	}
	return nil
}

// Stop asks the process to end, and makes it after grace.
func (c *Child) Stop(grace time.Duration) {
	if grace > 0 {
		c.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-c.ended:
		case <-time.After(grace):
		}
	}
	// The group outlives its leader while a worker of it runs.
	syscall.Kill(-c.PID(), syscall.SIGKILL)
	<-c.ended
}

// Output is the end of what the process has written so far.
func (c *Child) Output() string { return c.out.String() }

// Poll calls ok every interval until it is true, the child ends or ctx does.
func (c *Child) Poll(ctx context.Context, interval time.Duration, ok func() bool) error {
	for !ok() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w%s", c.Name, context.Cause(ctx), c.out.quote())
		case <-c.ended:
			return c.Err()
		case <-time.After(interval):
		}
	}
	return nil
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	kept []byte
	line []byte // begun, for tee
	tee  func(string)
}

const tailSize = 8 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, b...)
	if over := len(t.kept) - tailSize; over > 0 {
		t.kept = append(t.kept[:0], t.kept[over:]...)
	}
	if t.tee != nil {
		t.line = append(t.line, b...)
		for {
			line, rest, ok := bytes.Cut(t.line, []byte("\n"))
			if !ok {
				break
			}
			t.tee(string(line))
			t.line = rest
		}
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.kept)
}

// quote is the end of the output, indented for an error message.
func (t *tail) quote() string {
	text := strings.TrimSpace(t.String())
	if text == "" {
		return ""
	}
	return "; it wrote:\n\t" + strings.ReplaceAll(text, "\n", "\n\t")
}

// Output runs cmd to its end and returns what it wrote to stdout.
func Output(ctx context.Context, name string, cmd *exec.Cmd, stdin []byte) ([]byte, error) {
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout = bytes.NewReader(stdin), &out
	c, err := Start(name, cmd, nil)
	if err != nil {
		return nil, err
	}
	if err := c.Wait(ctx); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
