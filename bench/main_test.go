package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"dill/bench/peer"
	"dill/bench/result"
	"dill/bench/scenario"
	"dill/bench/target"
	"dill/dataplane/dptest"
)

func TestMain(m *testing.M) {
	dptest.Isolate() // before anything is built, or it would be twice
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	program = self + ".program" // in the directory that `go test` removes
	build := exec.Command("go", "build", "-o", program, "dill/bench")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
		os.Exit(1)
	}
	dptest.Main(m, nil)
}

// program is the path of the benchmarks' binary: client, sink and Go proxy are
// processes of it. It is built without the race detector, which would slow down
// what is measured by far more than what it is compared with.
var program string

func TestOptions(t *testing.T) {
	t.Setenv("PAIRS", "9")
	t.Setenv("DURATION", "3s")
	t.Setenv("SCENARIOS", "rr1")
	o, err := parseOptions([]string{"-duration", "5s", "-peers", "dill", "-set", "DILL_A=1", "-set", "DILL_B=2"})
	if err != nil {
		t.Fatal(err)
	}
	if o.pairs != 9 || o.duration != 5*time.Second || o.scenarios != "rr1" || o.peers != "dill" || !slices.Equal(o.settings, []string{"DILL_A=1", "DILL_B=2"}) {
		t.Errorf("%+v: want the environment, and flags over it", o)
	}
	for _, args := range [][]string{{"-pairs", "0"}, {"-duration", "-1s"}, {"-source", "etcd"}, {"what"}, {"-no"}, {"-set", "PATH=/"}} {
		if o, err := parseOptions(args); err == nil {
			t.Errorf("%v: accepted as %+v", args, o)
		}
	}
	t.Setenv("PAIRS", "many")
	if _, err := parseOptions(nil); err == nil || !strings.Contains(err.Error(), "PAIRS") {
		t.Errorf("%v, want an error that names PAIRS", err)
	}
}

func TestSelect(t *testing.T) {
	names := func(list string) []string {
		chosen, err := scenario.Select(list)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, s := range chosen {
			names = append(names, s.Name)
		}
		return names
	}
	if got := names("rr64, bulk1*,rr64"); !slices.Equal(got, []string{"rr64", "bulk1", "bulk1down", "bulk1user"}) {
		t.Errorf("%v", got)
	}
	if len(names("")) != len(scenario.All()) {
		t.Error("nothing asked for is not everything")
	}
	if _, err := scenario.Select("rr1,nope"); err == nil || !strings.Contains(err.Error(), "nope") {
		t.Errorf("%v, want an error that names it", err)
	}
}

// TestTargetsHaveScenarios holds the two tables together.
func TestTargetsHaveScenarios(t *testing.T) {
	for _, tt := range target.All {
		chosen, err := scenario.Select(tt.Scenario)
		if err != nil {
			t.Errorf("target %s: %v", tt.ID(), err)
			continue
		}
		for _, p := range tt.Peers {
			if s := chosen[0]; s.Peers != nil && !slices.Contains(s.Peers, p) {
				t.Errorf("target %s: %s takes no part in %s", tt.ID(), p, s.Name)
			}
		}
	}
	for _, s := range scenario.All() {
		if s.Title == "" || s.Measure == nil || s.Length == nil || len(s.Show) == 0 {
			t.Errorf("scenario %s is not complete", s.Name)
		}
		for _, name := range s.Show {
			result.MetricNamed(name) // panics for one that is none
		}
	}
	for _, name := range notQuick {
		if _, err := scenario.Select(name); err != nil {
			t.Error(err)
		}
	}
}

func TestFindPeers(t *testing.T) {
	found, _, err := findPeers("go,direct", "self", nil)
	if err != nil || len(found) != 2 || found[0].Name() != "direct" {
		t.Errorf("%v, %v", found, err)
	}
	if _, _, err := findPeers("go,squid", "self", nil); err == nil || !strings.Contains(err.Error(), "squid") {
		t.Errorf("%v, want an error that names it", err)
	}
	t.Setenv("PATH", t.TempDir())
	found, missing, err := findPeers("", "self", nil)
	if err != nil || len(found)+len(missing) != 5 {
		t.Errorf("%v and missing %v, %v; want five in all", found, missing, err)
	}
	for _, m := range missing {
		if !strings.Contains(m, "apt-get install") {
			t.Errorf("%q does not say how to get it", m)
		}
	}
}

func TestClock(t *testing.T) {
	var c clock
	c.expect(time.Second, 10)
	c.expect(2*time.Second, 5)
	if got := c.left(); got != 20*time.Second {
		t.Errorf("%v left at first, want 20s", got)
	}
	c.took(time.Second, 2*time.Second) // everything takes twice as long
	c.done(time.Second, 10)
	if got := c.left(); got != 20*time.Second {
		t.Errorf("%v left after half of it, want 20s", got)
	}
}

// rig is what scenarios need, with a sink, until the test ends.
func rig(t *testing.T) *scenario.Rig {
	t.Helper()
	r := &scenario.Rig{
		Self: program, Dir: t.TempDir(), Threads: 2, Quick: true,
		Warmup: 20 * time.Millisecond, Duration: 100 * time.Millisecond, Dill: &peer.Dill{},
	}
	if err := r.StartSink(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// TestRounds measures the harness's own peers as a user would.
func TestRounds(t *testing.T) {
	r := rig(t)
	s := &session{rig: r, pairs: 2, began: time.Now(), file: &result.File{Schema: result.Schema, Machine: result.ThisMachine()}}
	s.peers = []peer.Peer{peer.Direct{}, peer.Go{Self: r.Self}}
	chosen, err := scenario.Select("bulk1,bulk8down,rr1,conn,openloop,size1M,idle")
	if err != nil {
		t.Fatal(err)
	}
	s.plan(chosen)
	for _, sc := range chosen {
		if err := s.run(t.Context(), sc); err != nil {
			t.Fatal(err)
		}
	}
	s.judge()
	dir := t.TempDir()
	if err := s.file.Save(dir); err != nil {
		t.Fatal(err)
	}
	f, err := result.Read(filepath.Join(dir, "latest.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, sc := range chosen {
		row := f.Row(sc.Name)
		if row == nil || row.Error != "" {
			t.Errorf("%s: %+v", sc.Name, row)
			continue
		}
		metric := sc.Show[0]
		if sc.Peers == nil && (row.Medians["direct"][metric].N != 2 || row.Medians["go"][metric].N != 2) {
			t.Errorf("%s: %s is %+v, want two rounds of each", sc.Name, metric, row.Medians)
		}
	}
	if got := f.Row("idle").Medians["go"][result.FilesPerConn].Median; got < 2 || got > 6.5 {
		t.Errorf("the Go proxy holds %v descriptors for a connection; want two and those of its pipes", got)
	}
	if len(f.Targets) != len(target.All) {
		t.Errorf("%d targets judged of %d", len(f.Targets), len(target.All))
	}
}

// slowPeer is a peer that fails in its second round.
type slowPeer struct {
	peer.Direct
	starts *int
}

func (p slowPeer) Start(ctx context.Context, at peer.Site) (*peer.Running, error) {
	if *p.starts++; *p.starts > 1 {
		return nil, errors.New("no more")
	}
	return p.Direct.Start(ctx, at)
}

func TestFailureIsLoud(t *testing.T) {
	s := &session{rig: rig(t), pairs: 2, began: time.Now(), file: &result.File{}, peers: []peer.Peer{slowPeer{starts: new(int)}}}
	chosen, err := scenario.Select("rr1")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.run(t.Context(), chosen[0]); err != nil {
		t.Fatal(err)
	}
	row := s.file.Row("rr1")
	if s.failed != 1 || !strings.Contains(row.Error, "no more") || len(row.Samples) != 1 {
		t.Errorf("%d failed, %+v", s.failed, row)
	}
}

// TestInterrupted runs the real program and presses Ctrl-C.
func TestInterrupted(t *testing.T) {
	tmp := t.TempDir()
	cmd := exec.Command(program, "-dill", "/bin/true", "-source", "file", "-peers", "direct", "-scenarios", "rr1", "-duration", "1m", "-out", "")
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// The client's process is there when the measurement is under way.
	if !dptest.Poll(30*time.Second, func() bool { return len(processes(tmp)) >= 2 }) {
		t.Error("no client was started")
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 130 || !strings.Contains(out.String(), "interrupted") {
		t.Errorf("%v, status %d, and it said\n%s", err, code, out.String())
	}
	if left := processes(tmp); len(left) > 0 {
		t.Errorf("processes left: %v", left)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("files left: %v, %v", left, err)
	}
}

// processes are those whose binary lies below dir.
func processes(dir string) (pids []string) {
	links, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, link := range links {
		if path, err := os.Readlink(link); err == nil && strings.HasPrefix(path, dir+"/") {
			pids = append(pids, filepath.Base(filepath.Dir(link)))
		}
	}
	return pids
}
