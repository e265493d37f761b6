package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"dill/bench/peer"
	"dill/bench/scenario"
)

// options are the flags of a run.
type options struct {
	scenarios string
	peers     string
	pairs     int
	duration  time.Duration
	warmup    time.Duration
	threads   int
	dill      string
	against   string
	settings  []string
	user      string
	source    string
	out       string
	quick     bool
	profile   bool
}

func parseOptions(args []string) (*options, error) {
	o := new(options)
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.StringVar(&o.scenarios, "scenarios", os.Getenv("SCENARIOS"), "`names` of scenarios, separated by commas, * at the end matches more; all ($SCENARIOS)")
	f.StringVar(&o.peers, "peers", os.Getenv("PEERS"), "`names` of peers; all that are found ($PEERS)")
	f.IntVar(&o.pairs, "pairs", 5, "most rounds of a scenario ($PAIRS)")
	f.DurationVar(&o.duration, "duration", 2*time.Second, "measured in each turn ($DURATION)")
	f.DurationVar(&o.warmup, "warmup", 300*time.Millisecond, "load before that")
	f.IntVar(&o.threads, "threads", 2, "threads or workers of each peer")
	f.StringVar(&o.dill, "dill", "", "the dill `binary`; it is built")
	f.StringVar(&o.against, "against", "", "another dill `binary` that takes part as the peer "+before+", in every round")
	f.Func("set", "`DILL_KEY=value` for dill, on top of what the scenarios set; may be repeated", func(v string) error {
		if key, _, ok := strings.Cut(v, "="); !ok || !strings.HasPrefix(key, "DILL_") {
			return errors.New("want DILL_KEY=value")
		}
		o.settings = append(o.settings, v)
		return nil
	})
	f.StringVar(&o.user, "user", "nobody", "whom to run proxies as in the unprivileged scenarios")
	f.StringVar(&o.source, "source", "auto", "what tells dill its services: consul, file, or auto: consul where there is one")
	f.StringVar(&o.out, "out", filepath.Join("bench", "results"), "`directory` for the results; empty writes none")
	f.BoolVar(&o.quick, "quick", false, "look only whether everything works; the figures mean little")
	f.BoolVar(&o.profile, "profile", os.Getenv("PROFILE") == "1", "write CPU and allocation profiles of dill ($PROFILE=1)")
	// Before the flags, which then have the last word.
	for name, variable := range map[string]string{"pairs": "PAIRS", "duration": "DURATION"} {
		if text := os.Getenv(variable); text != "" {
			if err := f.Set(name, text); err != nil {
				return nil, fmt.Errorf("$%s is %q: %w", variable, text, err)
			}
		}
	}
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("what is %q? All settings are flags", f.Arg(0))
	}
	if o.pairs < 1 || o.duration <= 0 || o.warmup < 0 || o.threads < 1 {
		return nil, errors.New("-pairs, -duration and -threads want more than nothing")
	}
	if !slices.Contains([]string{"auto", "consul", "file"}, o.source) {
		return nil, fmt.Errorf("-source %s: want auto, consul or file", o.source)
	}
	if o.quick {
		o.pairs = 1
		o.duration = min(o.duration, 250*time.Millisecond)
		o.warmup = min(o.warmup, 100*time.Millisecond)
		if o.out != "" {
			o.out = filepath.Join(o.out, "quick")
		}
	}
	return o, nil
}

// before is the name of the peer that -against adds.
const before = "before"

// notQuick are scenarios that differ from others only in a number.
var notQuick = []string{"bulk1down", "bulk8user", "rr16", "rr512", "mixed8", "listeners1", "register300", "size256", "size1K", "size4K", "size16K", "size256K"}

// choose returns the scenarios to run.
func (o *options) choose() ([]scenario.Scenario, error) {
	chosen, err := scenario.Select(o.scenarios)
	if o.quick && o.scenarios == "" {
		chosen = slices.DeleteFunc(chosen, func(s scenario.Scenario) bool { return slices.Contains(notQuick, s.Name) })
	}
	return chosen, err
}

// unprivileged returns whom to run the proxies of unprivileged scenarios as;
// nil where this program itself has no privileges.
func (o *options) unprivileged() (*user.User, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	return user.Lookup(o.user)
}

// findPeers returns the peers named by list, in the order of their turns, and
// for each that is not on this machine how to get it. dill stands between
// HAProxy and nginx, next to both.
func findPeers(list, self string, dill *peer.Dill) (found []peer.Peer, missing []string, err error) {
	var wanted []string
	if list != "" {
		for name := range strings.SplitSeq(list, ",") {
			wanted = append(wanted, strings.TrimSpace(name))
		}
	}
	all := []struct {
		name string
		find func() (peer.Peer, error)
	}{
		{"direct", func() (peer.Peer, error) { return peer.Direct{}, nil }},
		{"haproxy", func() (peer.Peer, error) { return peer.FindHAProxy() }},
		{"dill", func() (peer.Peer, error) { return dill, nil }},
		{"nginx", func() (peer.Peer, error) { return peer.FindNginx() }},
		{"go", func() (peer.Peer, error) { return peer.Go{Self: self}, nil }},
		{"floor", func() (peer.Peer, error) { return peer.Floor{Self: self}, nil }},
	}
	var names []string
	for _, p := range all {
		names = append(names, p.name)
	}
	for _, name := range wanted {
		if !slices.Contains(names, name) {
			return nil, nil, fmt.Errorf("no peer is called %q; there are: %s", name, strings.Join(names, " "))
		}
	}
	for _, p := range all {
		if wanted != nil && !slices.Contains(wanted, p.name) || p.name == "dill" && dill == nil {
			continue
		}
		if peer, err := p.find(); err != nil {
			missing = append(missing, err.Error())
		} else {
			found = append(found, peer)
		}
	}
	return found, missing, nil
}

// buildDill builds the dill of this module into dir and returns its path and
// what to call it.
func buildDill(ctx context.Context, dir string) (path, version string, err error) {
	version = "unknown"
	if out, err := exec.CommandContext(ctx, "git", "describe", "--tags", "--always", "--dirty").Output(); err == nil {
		version = strings.TrimSpace(string(out))
	}
	path = filepath.Join(dir, "dill")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -X main.version="+version, "-o", path, "dill/cmd/dill")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", "", fmt.Errorf("build dill: %w\n%s", err, out)
	}
	return path, version, nil
}

// copySelf puts this program's binary where every user may run it: `go run`
// leaves it in a directory of its own user's.
func copySelf(dir string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	from, err := os.Open(self)
	if err != nil {
		return "", err
	}
	defer from.Close()
	path := filepath.Join(dir, "bench")
	to, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return "", err
	}
	if _, err := io.Copy(to, from); err != nil {
		to.Close()
		return "", err
	}
	return path, to.Close()
}
