package nomad

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"dill/dataplane/dptest"
)

// agent is a real Nomad: with -dev server and client in one, else what its
// configuration says.
type agent struct {
	t      *testing.T
	addr   string // URL
	rpc    string // host:port for other agents
	args   []string
	cmd    *exec.Cmd
	ended  chan struct{} // closed when cmd has
	logs   string        // path
	client *http.Client
	token  string
}

// nomadBinary finds a Nomad: $NOMAD, bin/nomad in the repository, PATH.
func nomadBinary(t *testing.T) string {
	t.Helper()
	for _, name := range []string{os.Getenv("NOMAD"), "../../../bin/nomad", "nomad"} {
		if name == "" {
			continue
		}
		if path, err := exec.LookPath(name); err == nil {
			if path, err = filepath.Abs(path); err == nil {
				return path
			}
		}
	}
	t.Fatal("no Nomad to test against: run `make nomad` once, or name one with NOMAD=")
	return ""
}

// startAgent runs a Nomad until the test ends, and waits until it takes jobs.
// config is added to its configuration; secure gives it TLS.
func startAgent(t *testing.T, dev bool, config string, secure *tls.Config) *agent {
	t.Helper()
	dir := t.TempDir()
	var ports [3]uint16
	for i := range ports {
		ports[i] = dptest.FreePort(t)
	}
	file := filepath.Join(dir, "agent.hcl")
	base := fmt.Sprintf(`
		bind_addr            = "127.0.0.1"
		disable_update_check = true
		data_dir             = %[1]q
		ports {
			http = %[2]d
			rpc  = %[3]d
			serf = %[4]d
		}
		advertise {
			http = "127.0.0.1:%[2]d"
			rpc  = "127.0.0.1:%[3]d"
			serf = "127.0.0.1:%[4]d"
		}
		consul {
			auto_advertise   = false
			client_auto_join = false
			server_auto_join = false
			address          = "127.0.0.1:1"
		}
		client {
			network_interface = "lo" # where the test runs there may be no other
			options {
				"driver.allowlist"     = "raw_exec"
				"fingerprint.denylist" = "env_aws,env_gce,env_azure,env_digitalocean,consul,vault,cni"
			}
		}
		plugin "raw_exec" {
			config {
				enabled = true
			}
		}
		`, filepath.Join(dir, "data"), ports[0], ports[1], ports[2])
	if err := os.WriteFile(file, []byte(base+config), 0o644); err != nil {
		t.Fatal(err)
	}
	a := &agent{
		t:    t,
		addr: fmt.Sprintf("http://127.0.0.1:%d", ports[0]),
		rpc:  fmt.Sprintf("127.0.0.1:%d", ports[1]),
		args: []string{nomadBinary(t), "agent", "-config", file, "-log-level", "WARN"},
		logs: filepath.Join(dir, "log"),
		client: &http.Client{
			Timeout:   10 * time.Second,
			Transport: &http.Transport{TLSClientConfig: secure, DisableKeepAlives: true},
		},
	}
	if dev {
		a.args = append(a.args, "-dev", "-bind", "127.0.0.1")
	}
	if secure != nil {
		a.addr = strings.Replace(a.addr, "http:", "https:", 1)
	}
	a.start()
	t.Cleanup(func() {
		a.stop(syscall.SIGINT)
		killTasks(dir)
		unmountBelow(t, dir)
	})
	return a
}

// killTasks ends what outlived the agent of that directory: its executors, which
// are known by their arguments, their children, the tasks, and its writers of
// logs, which are known by what they have open.
func killTasks(dir string) {
	executors := make(map[string]bool)
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		args, _ := os.ReadFile(file) // fails for what has just ended
		if bytes.Contains(args, []byte("executor")) && bytes.Contains(args, []byte(dir+"/")) {
			executors[filepath.Base(filepath.Dir(file))] = true
		}
		if bytes.Contains(args, []byte("logmon")) && hasOpen(filepath.Dir(file), dir) {
			kill(filepath.Base(filepath.Dir(file)))
		}
	}
	files, _ = filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		stat, _ := os.ReadFile(file)
		// pid (name) state ppid …, and the name may hold anything.
		_, rest, _ := bytes.Cut(stat, []byte(") "))
		if f := bytes.Fields(rest); len(f) > 1 && executors[string(f[1])] {
			kill(filepath.Base(filepath.Dir(file)))
		}
	}
	for pid := range executors {
		kill(pid)
	}
}

func kill(pid string) {
	if n, err := strconv.Atoi(pid); err == nil {
		syscall.Kill(n, syscall.SIGKILL)
	}
}

// hasOpen tells whether a process, by its directory in /proc, has a file below
// dir open.
func hasOpen(process, dir string) bool {
	links, _ := filepath.Glob(filepath.Join(process, "fd/*"))
	return slices.ContainsFunc(links, func(link string) bool {
		to, _ := os.Readlink(link)
		return strings.HasPrefix(to, dir+"/")
	})
}

// unmountBelow takes away the small file systems that Nomad, run as root, gives
// each task and leaves behind.
func unmountBelow(t *testing.T, dir string) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], dir+"/") {
			if err := syscall.Unmount(f[1], syscall.MNT_DETACH); err != nil {
				t.Errorf("unmount %s: %v", f[1], err)
			}
		}
	}
}

func (a *agent) start() {
	a.t.Helper()
	log, err := os.OpenFile(a.logs, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		a.t.Fatal(err)
	}
	defer log.Close()
	a.cmd = exec.Command(a.args[0], a.args[1:]...)
	a.cmd.Stdout, a.cmd.Stderr = log, log
	if err := a.cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
	a.ended = make(chan struct{})
	go func(cmd *exec.Cmd, ended chan struct{}) {
		cmd.Wait() // its exit status is of no interest
		close(ended)
	}(a.cmd, a.ended)
	a.await("leader", func() bool { return len(a.get("/v1/status/leader")) > 2 })
}

// stop ends the agent by sig and waits for its end.
func (a *agent) stop(sig syscall.Signal) {
	a.cmd.Process.Signal(sig)
	kill := time.AfterFunc(20*time.Second, func() { a.cmd.Process.Kill() })
	defer kill.Stop()
	<-a.ended
}

// await polls until ok: Nomad's own state is no part of what is tested.
func (a *agent) await(what string, ok func() bool) {
	a.t.Helper()
	deadline := time.Now().Add(90 * time.Second)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
			if time.Now().Before(deadline) {
				continue
			}
		case <-a.ended:
		}
		log, _ := os.ReadFile(a.logs)
		a.t.Fatalf("nomad: no %s; its log ends in\n%s", what, log[max(0, len(log)-3000):])
	}
}

// get returns the body of a good answer, nil without one.
func (a *agent) get(path string) []byte {
	code, body := a.do(http.MethodGet, path, nil)
	if code != http.StatusOK {
		return nil
	}
	return body
}

// do makes one request; the code is 0 if there was no answer.
func (a *agent) do(method, path string, body any) (int, []byte) {
	a.t.Helper()
	payload, err := json.Marshal(body)
	if err != nil {
		a.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(context.Background(), method, a.addr+path, bytes.NewReader(payload))
	if err != nil {
		a.t.Fatal(err)
	}
	req.Header.Set("X-Nomad-Token", a.token)
	resp, err := a.client.Do(req)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil
	}
	return resp.StatusCode, data
}

// must is do for what has to work.
func (a *agent) must(method, path string, body any) []byte {
	a.t.Helper()
	code, data := a.do(method, path, body)
	if code != http.StatusOK {
		a.t.Fatalf("nomad: %s %s: %d %s", method, path, code, data)
	}
	return data
}

// run registers a job of count tasks that do nothing, and whose service has
// the tags. It can be placed once a node is ready, so it waits for nothing.
func (a *agent) run(name, namespace string, count int, tags ...string) {
	a.t.Helper()
	type m = map[string]any
	a.must(http.MethodPut, "/v1/jobs", m{"Job": m{
		"ID": name, "Namespace": namespace, "Type": "service", "Datacenters": []string{"*"},
		"Update": m{"MaxParallel": 0},
		"TaskGroups": []m{{
			"Name": "group", "Count": count,
			"Networks":      []m{{"DynamicPorts": []m{{"Label": "main"}}}},
			"Services":      []m{{"Name": name, "PortLabel": "main", "Provider": "nomad", "Tags": tags}},
			"RestartPolicy": m{"Attempts": 0, "Mode": "fail"},
			"EphemeralDisk": m{"SizeMB": 10},
			"Tasks":         []m{{"Name": "task", "Driver": "raw_exec", "LogConfig": m{"MaxFiles": 1, "MaxFileSizeMB": 1}, "KillTimeout": int64(time.Second), "Config": m{"command": "/bin/sleep", "args": []string{"300"}}, "Resources": m{"CPU": 10, "MemoryMB": 10}}},
		}},
	}})
}

// purge ends a job and forgets it.
func (a *agent) purge(name, namespace string) {
	a.t.Helper()
	a.must(http.MethodDelete, "/v1/job/"+name+"?purge=true&namespace="+namespace, nil)
}
