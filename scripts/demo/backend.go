package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"syscall"
)

// backend is one instance behind a service: a process of its own, so that it
// can really be killed.
type backend struct {
	name string
	port int
	proc *exec.Cmd
}

// serveBackend is what a backend process does: it answers every request with
// its name, until it is killed.
func serveBackend(name, addr string) {
	log.Fatal(http.ListenAndServe(addr, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, name)
	})))
}

// startBackend starts a backend process on a free port. It may not listen yet
// when startBackend returns.
func startBackend(name string) (*backend, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	b := &backend{name: name, port: port}
	b.proc = child(exec.Command(self, "-backend", name, "-listen", b.addr()))
	b.proc.Stderr = os.Stderr
	if err := b.proc.Start(); err != nil {
		return nil, fmt.Errorf("start backend %s: %w", name, err)
	}
	return b, nil
}

func (b *backend) addr() string { return fmt.Sprintf("127.0.0.1:%d", b.port) }

// kill ends the process the hard way and waits for it. A second call does
// nothing.
func (b *backend) kill() {
	if b.proc.ProcessState == nil {
		b.proc.Process.Kill()
		b.proc.Wait()
	}
}

// child makes cmd end with this process, however this process ends, and keeps
// the terminal's Ctrl-C from it: the demo itself says when each one goes.
func child(cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// nextPort is where freePort looks next. The range lies below the one that
// the kernel takes source ports from, so nothing grabs a port between here and
// its use, and no client can connect to itself.
var nextPort = 20000 + os.Getpid()%8000

// freePort returns a loopback TCP port that nobody listens on.
func freePort() (int, error) {
	for range 1000 {
		nextPort++
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", nextPort))
		if err == nil {
			return nextPort, l.Close()
		}
	}
	return 0, fmt.Errorf("no free port up to %d", nextPort)
}
