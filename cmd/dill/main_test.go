package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"dill/controlplane/config"
	"dill/dataplane/dptest"
)

// The test binary, called as dill, is dill: scripts and end-to-end tests run
// the program as a process of its own, with the race detector if the tests have
// it.
func TestMain(m *testing.M) {
	dptest.Isolate()
	testscript.Main(leakChecked{m}, map[string]func(){"dill": main})
}

// leakChecked fails a run that leaves goroutines behind.
type leakChecked struct{ *testing.M }

func (m leakChecked) Run() int {
	code := m.M.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, "goroutines left:", err)
		return 1
	}
	return code
}

func TestScripts(t *testing.T) {
	examples, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(e *testscript.Env) error {
			e.Setenv("EXAMPLES", examples)
			return nil
		},
		RequireExplicitExec: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"refused": refused,
		},
	})
}

// refused is the script command `refused LINE`: the last dill ended with
// status 2 and LINE on standard error, nothing else anywhere.
func refused(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: refused LINE [dill-argument...]")
	}
	ctx, cancel := context.WithTimeout(context.Background(), dptest.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "dill", args[1:]...)
	cmd.Dir = ts.Getenv("WORK")
	for _, name := range []string{"PATH", "HOME"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	for _, name := range []string{"DILL_PEEK_LISTENER", "DILL_TYPO", "DILL_LISTENERS_ALLOWED", "CONSUL_HTTP_ADDR"} {
		if v := ts.Getenv(name); v != "" {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != exitUsage {
		ts.Fatalf("dill %q: %v, want exit status %d\n%s", args[1:], err, exitUsage, &stderr)
	}
	if stdout.Len() > 0 {
		ts.Fatalf("dill %q prints %q", args[1:], &stdout)
	}
	if want := args[0] + "\n"; stderr.String() != want {
		ts.Fatalf("dill %q says\n%swant\n%s", args[1:], &stderr, want)
	}
}

// The version of a release is put in by the linker.
func TestVersionFromLinker(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program")
	}
	bin := filepath.Join(t.TempDir(), "dill")
	build := exec.Command("go", "build", "-ldflags", "-X main.version=v9.8.7", "-o", bin, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.Command(bin, "-version").Output()
	if err != nil || string(out) != "dill v9.8.7\n" {
		t.Errorf("%q, %v", out, err)
	}
}

var update = flag.Bool("update", false, "write the reference of settings instead of comparing it")

//go:generate go test . -run=TestReferenceIsCurrent -update

// TestReferenceIsCurrent holds the reference beside this file to the code. With
// -update it writes it (make docs).
func TestReferenceIsCurrent(t *testing.T) {
	const begin, end = "<!-- config-reference -->\n", "<!-- /config-reference -->"
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), begin)
	_, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("README.md lacks the lines %q and %q", begin, end)
	}
	var table strings.Builder
	if err := config.Reference(&table); err != nil {
		t.Fatal(err)
	}
	switch fresh := before + begin + table.String() + end + after; {
	case fresh == string(text):
	case !*update:
		t.Error("README.md is not what config.Reference writes; run make docs")
	default:
		if err := os.WriteFile("README.md", []byte(fresh), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
