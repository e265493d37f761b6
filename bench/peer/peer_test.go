package peer

import (
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"strings"
	"syscall"
	"testing"
	"time"

	"dill/bench/load"
	"dill/bench/proc"
	"dill/bench/sink"
	"dill/dataplane/dptest"
)

func TestMain(m *testing.M) { dptest.Main(m, nil) }

func addrs(texts ...string) (all []netip.AddrPort) {
	for _, text := range texts {
		all = append(all, netip.MustParseAddrPort(text))
	}
	return all
}

func TestConfigsSayWhatIsFair(t *testing.T) {
	at := Site{Dir: "/dir", Listen: addrs("127.0.0.1:1111")[0], Backends: addrs("127.0.0.1:2222", "127.0.0.1:3333"), Threads: 2}
	tests := []struct {
		peer Peer
		want []string
	}{
		{&HAProxy{}, []string{"nbthread 2", "option splice-request", "option splice-response", "tune.pipesize 1048576",
			"maxconn ", "bind 127.0.0.1:1111", "127.0.0.1:2222", "127.0.0.1:3333"}},
		{&Nginx{module: "/m/stream.so"}, []string{"load_module /m/stream.so;", "worker_processes 2;", "listen 127.0.0.1:1111 reuseport",
			"server 127.0.0.1:2222;", "server 127.0.0.1:3333;"}},
		{&Dill{}, []string{"DILL_FILE_PATH=/dir/routes.json", "bench:1111", "127.0.0.1:2222", "127.0.0.1:3333"}},
	}
	for _, tt := range tests {
		config := tt.peer.Config(at)
		for _, want := range tt.want {
			if !strings.Contains(config, want) {
				t.Errorf("%s: no %q in\n%s", tt.peer.Name(), want, config)
			}
		}
	}
}

func TestNginxMustPassHalfClose(t *testing.T) {
	for version, want := range map[string]bool{
		"nginx 1.22.1": true, "nginx 1.21.4": true, "nginx 1.21.3": false, "nginx 1.18.0": false,
		"nginx 2.0.0": true, "nginx 1.9.15": false, "openresty 1.19.9.1": true,
	} {
		if got := (&Nginx{version: version}).passesHalfClose(); got != want {
			t.Errorf("%s: %v, want %v", version, got, want)
		}
	}
}

func TestVariants(t *testing.T) {
	d := &Dill{Path: "p", Env: []string{"A=1"}}
	one, two := d.With("one", "B=1"), d.With("two", "B=2")
	if d.Name() != "dill" || one.Name() != "one" || len(d.Env) != 1 || one.Env[1] != "B=1" || two.Env[1] != "B=2" {
		t.Errorf("%+v, %+v, %+v", d, one, two)
	}
}

func TestRoutes(t *testing.T) {
	var doc struct {
		Services []struct {
			Name, Listener string
			Backends       []string
		}
	}
	if err := json.Unmarshal(Routes(), &doc); err != nil || doc.Services == nil {
		t.Errorf("no services are %s, %v; want an empty list", Routes(), err)
	}
	b := Routes(Service{"a", addrs("127.0.0.1:1")[0], addrs("127.0.0.1:2")})
	if err := json.Unmarshal(b, &doc); err != nil || len(doc.Services) != 1 || doc.Services[0].Listener != "bench:1" || doc.Services[0].Backends[0] != "127.0.0.1:2" {
		t.Errorf("%s, %v", b, err)
	}
}

func TestFreePortsAreFree(t *testing.T) {
	first, err := FreePorts(50)
	if err != nil {
		t.Fatal(err)
	}
	if !allFree(int(first), 50) {
		t.Errorf("of the ports from %d on one is taken", first)
	}
}

func TestCounterLines(t *testing.T) {
	r := newCounterReader()
	for _, line := range []string{
		"accepted 12", "mallocs 345", "  gc_cycles 6 ", "accepted 13",
		`time=2026-01-01 level=INFO msg="dill runs" sessions=7`, `{"level": 5}`, "half a line", "", "none", "x 1 2",
	} {
		r.line(line)
	}
	want := map[string]float64{"accepted": 13, "mallocs": 345, "gc_cycles": 6}
	if len(r.values) != len(want) {
		t.Errorf("%v, want %v", r.values, want)
	}
	for name, v := range want {
		if r.values[name] != v {
			t.Errorf("%s is %v, want %v", name, r.values[name], v)
		}
	}
}

// TestCountersOfAProcess asks one that answers, and one that would be killed by
// the question.
func TestCountersOfAProcess(t *testing.T) {
	r := newCounterReader()
	c, err := proc.Start("the shell", exec.Command("sh", "-c", "trap 'echo mallocs 7; echo gc_cycles 1' USR1; echo ready 1; while :; do sleep 0.01; done"), r.line)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Stop(0)
	if !dptest.Poll(10*time.Second, func() bool { return proc.Catches(c.PID(), syscall.SIGUSR1) }) {
		t.Fatal("no handler")
	}
	values, err := r.ask(t.Context(), c)
	if err != nil || values["mallocs"] != 7 || values["gc_cycles"] != 1 {
		t.Errorf("%v, %v", values, err)
	}

	deaf, err := proc.Start("sleep", exec.Command("sleep", "60"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Stop(0)
	if values, err := newCounterReader().ask(t.Context(), deaf); values != nil || err != nil {
		t.Errorf("%v, %v; want nothing", values, err)
	}
	if syscall.Kill(deaf.PID(), 0) != nil {
		t.Error("the question killed it")
	}
}

// TestInstalledPeers starts those that are on this machine and sends a request
// through each, which Start does; where that is permitted also as another
// user, who may not enter the directory that the benchmark runs in.
func TestInstalledPeers(t *testing.T) {
	t.Chdir(t.TempDir()) // below one that is closed to others
	users := map[string]*user.User{"self": nil}
	if nobody, err := user.Lookup("nobody"); err == nil && os.Getuid() == 0 {
		users["nobody"] = nobody
	}
	s, err := sink.New(2)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve() }()
	defer func() {
		s.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	haproxy, errH := FindHAProxy()
	nginx, errN := FindNginx()
	for _, p := range []struct {
		peer Peer
		err  error
	}{{haproxy, errH}, {nginx, errN}, {Direct{}, nil}} {
		if p.err != nil {
			t.Log("not here:", p.err)
			continue
		}
		for name, u := range users {
			t.Run(p.peer.Name()+"/"+name, func(t *testing.T) {
				port, err := FreePorts(1)
				if err != nil {
					t.Fatal(err)
				}
				at := Site{
					Dir: openDir(t), Listen: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port),
					Backends: s.Addrs(), User: u, Threads: 2,
				}
				r, err := p.peer.Start(t.Context(), at)
				if err != nil {
					t.Fatal(err)
				}
				defer r.Stop()
				if err := load.Probe(r.Targets[0], 5*time.Second); err != nil {
					t.Error(err)
				}
				if p.peer.Version() == "" {
					t.Error("no version")
				}
				if p.peer.Name() == "nginx" && len(r.PIDs) != 3 {
					t.Errorf("processes %v, want a master and two workers", r.PIDs)
				}
			})
		}
	}
}

// openDir returns a temporary directory that every user may enter.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "peer-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestPeerThatCannotStart(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c, err := proc.Start("a bad proxy", exec.Command("sh", "-c", "echo cannot bind >&2; exit 1"), nil)
	if err != nil {
		t.Fatal(err)
	}
	port, err := FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	_, err = await(ctx, c, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port))
	if err == nil || !strings.Contains(err.Error(), "cannot bind") {
		t.Errorf("%v, want what it said", err)
	}
}
