package peer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"dill/bench/proc"
)

// Nginx is nginx with the stream module.
type Nginx struct {
	path, version string
	module        string // to load; "" when it is built in
}

// FindNginx looks for it on PATH, and for its stream module.
func FindNginx() (*Nginx, error) {
	path, err := lookPath("nginx")
	if err != nil {
		return nil, errors.New("nginx was not found; on Debian: apt-get install nginx-light libnginx-mod-stream")
	}
	out, err := exec.Command(path, "-V").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s -V: %w", path, err)
	}
	text := string(out)
	line, _, _ := strings.Cut(text, "\n")
	n := &Nginx{path: path, version: strings.Replace(strings.TrimPrefix(line, "nginx version: "), "/", " ", 1)}
	if !n.passesHalfClose() {
		return nil, fmt.Errorf("%s is too old to pass one end of a connection on; 1.21.4 is the first that can", n.version)
	}
	if strings.Contains(text, "--with-stream ") || strings.HasSuffix(strings.TrimSpace(text), "--with-stream") {
		return n, nil
	}
	dirs := []string{"/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/share/nginx/modules"}
	if m := regexp.MustCompile(`--modules-path=(\S+)`).FindStringSubmatch(text); m != nil {
		dirs = append([]string{m[1]}, dirs...)
	}
	for _, dir := range dirs {
		module := filepath.Join(dir, "ngx_stream_module.so")
		if _, err := os.Stat(module); err == nil {
			n.module = module
			return n, nil
		}
	}
	return nil, errors.New("nginx has no stream module; on Debian: apt-get install libnginx-mod-stream")
}

// passesHalfClose tells whether this nginx knows proxy_half_close.
func (n *Nginx) passesHalfClose() bool {
	var major, minor, patch int
	if _, err := fmt.Sscanf(n.version, "nginx %d.%d.%d", &major, &minor, &patch); err != nil {
		return true // of another make: let it try
	}
	return slices.Compare([]int{major, minor, patch}, []int{1, 21, 4}) >= 0
}

func (*Nginx) Name() string      { return "nginx" }
func (n *Nginx) Version() string { return n.version }

// Config needs nginx 1.21.4, which is the first that can pass an end of stream
// on in one direction; without that no upload through it could be verified.
func (n *Nginx) Config(at Site) string {
	var b strings.Builder
	if n.module != "" {
		fmt.Fprintf(&b, "load_module %s;\n", n.module)
	}
	fmt.Fprintf(&b, `daemon off;
worker_processes %d;
worker_rlimit_nofile %d;
pid %s;
error_log stderr warn;
events {
  worker_connections %d;
}
stream {
  upstream sink {
`, at.Threads, OpenFiles(), filepath.Join(at.Dir, "nginx.pid"), OpenFiles()-200)
	for _, backend := range at.Backends {
		fmt.Fprintf(&b, "    server %s;\n", backend)
	}
	fmt.Fprintf(&b, `  }
  server {
    listen %s reuseport backlog=4096;
    proxy_pass sink;
    proxy_timeout 1h;
    proxy_half_close on;
  }
}
`, at.Listen)
	return b.String()
}

func (n *Nginx) Start(ctx context.Context, at Site) (*Running, error) {
	file := filepath.Join(at.Dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(n.Config(at)), 0o644); err != nil {
		return nil, err
	}
	if err := at.handOver(); err != nil { // for its pid file
		return nil, err
	}
	// -e: before it has read the file it would open a log where only root may.
	cmd, err := at.command(n.path, "-e", "stderr", "-p", at.Dir, "-c", file)
	if err != nil {
		return nil, err
	}
	c, err := proc.Start("nginx", cmd, nil)
	if err != nil {
		return nil, err
	}
	return await(ctx, c, at.Listen)
}
