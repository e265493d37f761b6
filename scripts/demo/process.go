package main

import (
	"fmt"
	"os/exec"
	"runtime"
	"syscall"
)

// process is a child process of the demo.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed once it has ended, and err is set
	err  error
}

// start starts cmd so that it ends with this process, however this process
// ends, and keeps the terminal's Ctrl-C from it: the demo itself says when each
// one goes. ended is called when the process is no more, whoever ended it.
func start(cmd *exec.Cmd, ended func(error)) (*process, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// Pdeathsig is about the thread that starts the child, so that thread
		// stays for as long as the child lives.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			ended(fmt.Errorf("%s ended: %v", cmd.Path, cmd.ProcessState))
			close(p.done)
		}
	}()
	return p, <-started
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// kill ends the process the hard way and waits for it. On one that has ended
// it does nothing.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.done
}
