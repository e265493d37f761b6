package peer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"dill/bench/proc"
)

// HAProxy is HAProxy in TCP mode.
type HAProxy struct{ path, version string }

// FindHAProxy looks for it on PATH.
func FindHAProxy() (*HAProxy, error) {
	path, err := lookPath("haproxy")
	if err != nil {
		return nil, errors.New("haproxy was not found; on Debian: apt-get install haproxy")
	}
	out, err := exec.Command(path, "-v").Output()
	if err != nil {
		return nil, fmt.Errorf("%s -v: %w", path, err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	fields := strings.Fields(line) // HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://…
	if len(fields) < 3 {
		return nil, fmt.Errorf("%s -v says %q", path, line)
	}
	return &HAProxy{path, strings.Join(fields[:3], " ")}, nil
}

func (*HAProxy) Name() string      { return "haproxy" }
func (h *HAProxy) Version() string { return h.version }

// haproxyPipes is how many pipes it may use at once. By default it would
// reserve a quarter of maxconn, and with it the files that connections need.
const haproxyPipes = 256

// Config leaves the distribution of connections over the threads to HAProxy,
// which gives each to the one that has the fewest; a listening socket for each
// thread ("shards by-thread") was tried and is no faster.
func (h *HAProxy) Config(at Site) string {
	var b strings.Builder
	fmt.Fprintf(&b, `global
  nbthread %d
  maxconn %d
  maxpipes %d
  tune.pipesize 1048576
defaults
  mode tcp
  option splice-request
  option splice-response
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen bench
  bind %s
  balance roundrobin
`, at.Threads, (OpenFiles()-2*haproxyPipes-200)/2, haproxyPipes, at.Listen)
	for i, backend := range at.Backends {
		fmt.Fprintf(&b, "  server s%d %s\n", i, backend)
	}
	return b.String()
}

func (h *HAProxy) Start(ctx context.Context, at Site) (*Running, error) {
	file := filepath.Join(at.Dir, "haproxy.cfg")
	if err := os.WriteFile(file, []byte(h.Config(at)), 0o644); err != nil {
		return nil, err
	}
	cmd, err := at.command(h.path, "-db", "-f", file)
	if err != nil {
		return nil, err
	}
	c, err := proc.Start("haproxy", cmd, nil)
	if err != nil {
		return nil, err
	}
	return await(ctx, c, at.Listen)
}

// OpenFiles is the limit of open files of this process and its children.
func OpenFiles() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 1024
	}
	return int(min(limit.Max, 1<<20))
}

// lookPath is exec.LookPath, also in the directories of servers that are not
// on the PATH of ordinary users.
func lookPath(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", exec.ErrNotFound
}
