package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// agent is a Consul dev agent of the demo's own.
type agent struct {
	httpAddr string // host:port
	proc     *exec.Cmd
}

func (a *agent) url() string { return "http://" + a.httpAddr }

// startAgent starts the Consul that $CONSUL names, or the one on PATH, on free
// ports, and returns when it has a leader.
func startAgent(ctx context.Context, dir string) (*agent, error) {
	var ports [3]int
	for i := range ports {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		ports[i] = port
	}
	config := fmt.Sprintf(`{"ports": {"http": %d, "serf_lan": %d, "server": %d,
  "dns": -1, "grpc": -1, "grpc_tls": -1, "https": -1, "serf_wan": -1}}`, ports[0], ports[1], ports[2])
	file := filepath.Join(dir, "consul.json")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	log := filepath.Join(dir, "consul.log")
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close()

	a := &agent{httpAddr: fmt.Sprintf("127.0.0.1:%d", ports[0])}
	a.proc = child(exec.Command(cmp.Or(os.Getenv("CONSUL"), "consul"),
		"agent", "-dev", "-bind", "127.0.0.1", "-config-file", file))
	a.proc.Stdout, a.proc.Stderr = out, out
	if err := a.proc.Start(); err != nil {
		return nil, fmt.Errorf("start consul: %w", err)
	}
	if _, err := await(ctx, "Consul has a leader", a.hasLeader); err != nil {
		a.stop()
		text, _ := os.ReadFile(log)
		return nil, fmt.Errorf("%w; its log ends:\n%s", err, text[max(0, len(text)-2000):])
	}
	return a, nil
}

// hasLeader reports whether the agent takes registrations.
func (a *agent) hasLeader() bool {
	resp, err := oneShot.Get(a.url() + "/v1/status/leader")
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return err == nil && resp.StatusCode == http.StatusOK && strings.Contains(string(body), ":")
}

// stop ends the agent. Nothing of a dev agent is kept, so it need not leave
// gracefully.
func (a *agent) stop() {
	a.proc.Process.Kill()
	a.proc.Wait()
}
