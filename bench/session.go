package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"dill/bench/load"
	"dill/bench/peer"
	"dill/bench/registry"
	"dill/bench/result"
	"dill/bench/scenario"
	"dill/bench/target"
)

// subject is the peer that the others are compared with.
const subject = "dill"

// session is one run of the benchmarks. One goroutine uses it.
type session struct {
	rig    *scenario.Rig
	peers  []peer.Peer
	pairs  int
	double bool // measure more rounds where a target is in doubt
	consul *registry.Registry
	began  time.Time
	file   *result.File
	failed int
	clock  clock
}

// close ends everything that runs, and takes back what was registered.
func (s *session) close() error {
	s.rig.Close()
	if s.consul != nil {
		return s.consul.Close()
	}
	return nil
}

// introduce says what will be measured where, and shows the configurations.
func (s *session) introduce(w io.Writer) {
	fmt.Fprintln(w, s.file.Machine)
	source := "services come from a routing file"
	if s.consul != nil {
		source = fmt.Sprintf("services come from %s at %s", s.file.Consul, s.consul.URL)
	}
	fmt.Fprintf(w, "dill %s; its %s\n", s.file.Dill, source)
	local := netip.MustParseAddrPort("127.0.0.1:20000")
	at := peer.Site{Dir: "DIR", Listen: local, Backends: s.rig.Backends, Threads: s.rig.Threads}
	for _, p := range s.peers {
		config := strings.TrimSpace(p.Config(at))
		s.file.Peers = append(s.file.Peers, result.Peer{Name: p.Name(), Version: p.Version(), Config: config})
		fmt.Fprintf(w, "\n%s: %s\n", p.Name(), p.Version())
		for line := range strings.Lines(config) {
			fmt.Fprint(w, "    ", line)
		}
		fmt.Fprintln(w)
	}
	for _, m := range s.file.Missing {
		fmt.Fprintln(w, "\nNOT compared:", m)
	}
}

// plan sets the clock to how long the scenarios should take.
func (s *session) plan(scenarios []scenario.Scenario) {
	for _, sc := range scenarios {
		s.clock.expect(s.turnLength(sc), s.turnsOf(sc))
	}
	fmt.Fprintf(os.Stderr, "\nThis will take about %v.\n", s.clock.left())
}

// startAndStop is about how long it takes to start a peer and to end it.
const startAndStop = 300 * time.Millisecond

func (s *session) turnLength(sc scenario.Scenario) time.Duration {
	return sc.Length(s.rig) + startAndStop
}

func (s *session) rounds(sc scenario.Scenario) int {
	if sc.Pairs > 0 {
		return min(sc.Pairs, s.pairs)
	}
	return s.pairs
}

// fewRounds is how often peers are measured that no target of the scenario
// names: for orientation.
const fewRounds = 3

// roundsOf is in how many rounds of sc p takes a turn.
func (s *session) roundsOf(sc scenario.Scenario, p peer.Peer) int {
	n := s.rounds(sc)
	if p.Name() == subject || p.Name() == before || slices.Contains(target.Peers(sc.Name), p.Name()) {
		return n
	}
	return min(n, fewRounds)
}

// turnsOf is how many turns are planned in sc.
func (s *session) turnsOf(sc scenario.Scenario) int {
	n := 0
	for _, p := range s.takePart(sc) {
		n += s.roundsOf(sc, p)
	}
	return n
}

// takePart returns who takes turns in sc.
func (s *session) takePart(sc scenario.Scenario) []peer.Peer {
	if sc.Variants != nil {
		if !slices.ContainsFunc(s.peers, func(p peer.Peer) bool { return p.Name() == subject }) {
			return nil
		}
		return sc.Variants(s.rig)
	}
	return slices.DeleteFunc(slices.Clone(s.peers), func(p peer.Peer) bool {
		if p.Name() == (peer.Floor{}).Name() {
			return !sc.Floor
		}
		return sc.Peers != nil && !slices.Contains(sc.Peers, p.Name())
	})
}

// run measures one scenario and adds its row. The error is ctx's.
func (s *session) run(ctx context.Context, sc scenario.Scenario) error {
	peers := s.takePart(sc)
	if len(peers) == 0 {
		return nil
	}
	t := &turns{
		session: s, scenario: sc, peers: peers,
		row:    result.Row{Scenario: sc.Name, Title: sc.Title, Show: sc.Show},
		curves: map[string]*hdrhistogram.Histogram{},
	}
	s.rig.Enter(sc.Name)
	result.PrintTitle(os.Stdout, sc.Name, sc.Title)
	err := t.measure(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	switch {
	case errors.Is(err, scenario.ErrSkip):
		t.row.Skipped = err.Error()
	case err != nil:
		t.row.Error = err.Error()
		s.failed++
	}
	t.row.Summarize(subject)
	t.row.Curves = points(t.curves)
	s.file.Rows = append(s.file.Rows, t.row)
	result.PrintRow(os.Stdout, &t.row, subject)
	return nil
}

// judge fills in the targets.
func (s *session) judge() {
	s.file.Took = time.Since(s.began).Round(time.Second).String()
	for _, t := range target.All {
		s.file.Targets = append(s.file.Targets, t.Judge(s.file.Row(t.Scenario), subject))
	}
}

// turns is a scenario that is being measured.
type turns struct {
	*session
	scenario scenario.Scenario
	peers    []peer.Peer
	row      result.Row
	curves   map[string]*hdrhistogram.Histogram
}

// measure has the peers take turns, for as many rounds as it takes.
func (t *turns) measure(ctx context.Context) error {
	n := t.rounds(t.scenario)
	planned := t.turnsOf(t.scenario)
	defer func() { t.clock.done(t.turnLength(t.scenario), planned) }()
	if t.scenario.Prepare != nil {
		note, err := t.scenario.Prepare(ctx, t.rig, t.peers)
		if err != nil {
			return err
		}
		fmt.Printf("  %s\n", note)
		t.row.Note = note
	}
	if err := t.take(ctx, t.peers, 0, n); err != nil || !t.double {
		return err
	}
	names := target.Doubtful(&t.row, subject)
	if len(names) == 0 {
		return nil
	}
	fmt.Printf("  a target is in doubt: as many rounds again of %s\n", strings.Join(names, ", "))
	t.row.Doubled = true
	doubtful := slices.DeleteFunc(slices.Clone(t.peers), func(p peer.Peer) bool { return !slices.Contains(names, p.Name()) })
	return t.take(ctx, doubtful, n, 2*n)
}

// take measures the rounds from first up to, not including, end.
func (t *turns) take(ctx context.Context, peers []peer.Peer, first, end int) error {
	for round := first; round < end; round++ {
		order := slices.Clone(peers)
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for _, p := range order {
			if round >= t.roundsOf(t.scenario, p) && first == 0 {
				continue
			}
			if err := t.turn(ctx, p, round); err != nil {
				return fmt.Errorf("%s, round %d: %w", p.Name(), round+1, err)
			}
		}
	}
	return nil
}

// turn is one turn of p.
func (t *turns) turn(ctx context.Context, p peer.Peer, round int) error {
	began := time.Now()
	turn, err := t.scenario.Measure(ctx, t.rig, p)
	if err != nil {
		return err
	}
	t.clock.took(t.turnLength(t.scenario), time.Since(began))
	t.row.Samples = append(t.row.Samples, result.Sample{Peer: p.Name(), Round: round, Values: turn.Values})
	for name, curve := range turn.Curves {
		name = cmp.Or(name, p.Name())
		if t.curves[name] == nil {
			t.curves[name] = load.NewHistogram()
		}
		t.curves[name].Merge(curve)
	}
	result.PrintTurn(os.Stderr, round, p.Name(), t.scenario.Show, turn.Values, t.clock.left())
	return nil
}

// points are a curve's percentiles, denser where it is interesting.
func points(curves map[string]*hdrhistogram.Histogram) map[string][]result.Point {
	at := []float64{0, 5, 10, 20, 30, 40, 50, 60, 70, 75, 80, 85, 90, 92.5, 95, 97.5, 98, 99, 99.5, 99.75, 99.9, 99.95, 99.99, 99.999, 100}
	out := map[string][]result.Point{}
	for name, h := range curves {
		for _, p := range at {
			out[name] = append(out[name], result.Point{Percentile: p, Micros: float64(h.ValueAtQuantile(p)) / 1e3})
		}
	}
	return out
}
