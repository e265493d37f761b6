// Package scenario is what is measured: each scenario puts one peer to work
// once and returns the numbers of that turn. Who takes turns with whom, and how
// often, is not its business.
package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"dill/bench/load"
	"dill/bench/peer"
	"dill/bench/proc"
	"dill/bench/sink"
)

// Scenario is one thing to measure.
type Scenario struct {
	Name  string
	Title string
	Peers []string // who can take part; nil = everybody but the floor
	Floor bool     // the floor takes part, too
	Pairs int      // at most how many rounds; 0 = as many as asked for
	Show  []string // metrics in the table, the first one in plots

	// Measure gives p one turn.
	Measure func(ctx context.Context, r *Rig, p peer.Peer) (*Turn, error)

	// Variants are who takes part instead of peers; nil = peers do.
	Variants func(r *Rig) []peer.Peer

	// Prepare, if there is one, runs before the first turn and returns what is
	// to be said about it.
	Prepare func(ctx context.Context, r *Rig, peers []peer.Peer) (note string, err error)

	// Length is about how long a turn lasts besides the start of the peer.
	Length func(r *Rig) time.Duration
}

// ErrSkip is wrapped by the error of a scenario that this machine cannot run.
var ErrSkip = errors.New("skipped")

// Turn is what one turn of a peer gave.
type Turn struct {
	Values map[string]float64 // by the names in package result

	// Curves are distributions in nanoseconds, by name: "" is the peer's own,
	// of its latency.
	Curves map[string]*hdrhistogram.Histogram
}

func newCurves(names ...string) map[string]*hdrhistogram.Histogram {
	curves := make(map[string]*hdrhistogram.Histogram)
	for _, name := range names {
		curves[name] = load.NewHistogram()
	}
	return curves
}

// Rig is what the scenarios share: the sink, a place for files, the settings.
type Rig struct {
	Self     string // this program's binary, readable for everybody
	Dir      string
	Warmup   time.Duration
	Duration time.Duration
	Threads  int        // of the peers
	User     *user.User // for the unprivileged scenarios; nil where all are
	Quick    bool       // less of everything that Duration does not rule
	Dill     *peer.Dill

	Sink     *proc.Child
	Backends []netip.AddrPort

	scenario string // that is being measured

	rate   float64        // of the open loop
	crowds map[int]*crowd // by the number of services

	profiles string // directory for profiles of dill; "" = none
	pprof    string // where dill serves them
}

// Enter tells what is going to be measured, for the names of files.
func (r *Rig) Enter(scenario string) { r.scenario = scenario }

// Close ends what the scenarios have left running for one another.
func (r *Rig) Close() {
	r.dropCrowds()
	if r.Sink != nil {
		r.Sink.Stop(0)
	}
}

// The subcommands under which the benchmark's binary is the sink and the load
// generator.
const (
	SinkArg = "sink"
	LoadArg = "load"
)

// StartSink starts the sink's process with n backends.
func (r *Rig) StartSink(ctx context.Context, n int) error {
	file := r.Dir + "/sink.addrs"
	c, err := proc.Start("the sink", exec.Command(r.Self, SinkArg, file, fmt.Sprint(n)), nil)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 10*time.Second, errors.New("the sink did not start"))
	defer cancel()
	var text []byte
	err = c.Poll(ctx, time.Millisecond, func() bool { text, err = os.ReadFile(file); return err == nil })
	if err != nil {
		return err
	}
	for field := range strings.FieldsSeq(string(text)) {
		addr, err := netip.ParseAddrPort(field)
		if err != nil {
			return fmt.Errorf("the sink's address: %w", err)
		}
		r.Backends = append(r.Backends, addr)
	}
	r.Sink = c
	return nil
}

// RunSink is the sink's process: it writes its addresses to file, and serves.
func RunSink(file string, n int) error {
	s, err := sink.New(n)
	if err != nil {
		return err
	}
	var addrs []string
	for _, a := range s.Addrs() {
		addrs = append(addrs, a.String())
	}
	part := file + ".part"
	if err := os.WriteFile(part, []byte(strings.Join(addrs, " ")), 0o644); err != nil {
		return err
	}
	if err := os.Rename(part, file); err != nil {
		return err
	}
	return s.Serve()
}

// Load runs spec in a process of its own.
func (r *Rig) Load(ctx context.Context, spec load.Spec) (*load.Result, error) {
	in, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	out, err := proc.Output(ctx, "the client", exec.Command(r.Self, LoadArg), in)
	if err != nil {
		return nil, err
	}
	result := new(load.Result)
	if err := json.Unmarshal(out, result); err != nil {
		return nil, fmt.Errorf("the client's result: %w", err)
	}
	return result, nil
}

// RunLoad is the load generator's process.
func RunLoad(ctx context.Context) error {
	var spec load.Spec
	if err := json.NewDecoder(os.Stdin).Decode(&spec); err != nil {
		return err
	}
	result, err := load.Run(ctx, spec)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

// site is a fresh place to start a peer at, with an undo.
func (r *Rig) site(ports int, u *user.User) (peer.Site, func(), error) {
	port, err := peer.FreePorts(ports)
	if err != nil {
		return peer.Site{}, nil, err
	}
	dir, err := os.MkdirTemp(r.Dir, "peer-")
	if err != nil {
		return peer.Site{}, nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return peer.Site{}, nil, err
	}
	return peer.Site{
		Dir:      dir,
		Listen:   netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port),
		Backends: r.Backends,
		User:     u,
		Threads:  r.Threads,
	}, func() { os.RemoveAll(dir) }, nil
}
