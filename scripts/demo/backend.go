package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
)

// backend is one instance behind a service: a process of its own, so that it
// can really be killed.
type backend struct {
	*process
	name string
	port int
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
	cmd := exec.Command(self, "-backend", name, "-listen", b.addr())
	cmd.Stderr = os.Stderr
	b.process, err = start(cmd, func(error) {}) // to be killed is its part in the story
	return b, err
}

func (b *backend) addr() string { return fmt.Sprintf("127.0.0.1:%d", b.port) }

// nextPort is where freePort looks next. The range lies below the one that
// the kernel takes source ports from, so nothing grabs a port between here and
// its use, and no client can connect to itself; and below that of consultest.
var nextPort = 10_000 + os.Getpid()%10_000

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
