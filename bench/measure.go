package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"dill/bench/load"
	"dill/bench/peer"
	"dill/bench/result"
	"dill/bench/scenario"
	"dill/bench/target"
)

// subject is the peer that the others are compared with.
const subject = "dill"

// measure runs the benchmarks that args ask for.
func measure(ctx context.Context, args []string) error {
	o, err := parseOptions(args)
	if err != nil {
		return err
	}
	scenarios, err := scenario.Select(o.scenarios)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "dill-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	rig := &scenario.Rig{Dir: dir, Warmup: o.warmup, Duration: o.duration, Threads: o.threads}
	if rig.User, err = o.unprivileged(); err != nil {
		return err
	}
	if rig.Self, err = copySelf(dir); err != nil {
		return err
	}
	rig.Dill = &peer.Dill{Path: o.dill, Ver: o.dill}
	if o.dill == "" {
		if rig.Dill.Path, rig.Dill.Ver, err = buildDill(ctx, dir); err != nil {
			return err
		}
	} else if rig.Dill.Path, err = filepath.Abs(o.dill); err != nil {
		return err
	}
	peers, missing, err := findPeers(o.peers, rig.Self, rig.Dill)
	if err != nil {
		return err
	}
	if err := rig.StartSink(ctx, 2); err != nil {
		return err
	}
	defer rig.Sink.Stop(0)

	s := &session{rig: rig, peers: peers, pairs: o.pairs, began: time.Now()}
	s.file = &result.File{
		Schema: result.Schema, Began: s.began.UTC().Truncate(time.Second),
		Dill: rig.Dill.Ver, Source: "file", Missing: missing,
		Settings: result.Settings{Pairs: o.pairs, Duration: o.duration.String(), Warmup: o.warmup.String()},
		Machine:  result.ThisMachine(),
	}
	s.introduce()
	for _, sc := range scenarios {
		if err := s.run(ctx, sc); err != nil {
			return err // only for the end of ctx
		}
	}
	s.judge()
	result.PrintTargets(os.Stdout, s.file)
	if s.failed {
		return errors.New("some scenarios failed, see above")
	}
	return nil
}

// session is one run of the benchmarks.
type session struct {
	rig    *scenario.Rig
	peers  []peer.Peer
	pairs  int
	began  time.Time
	file   *result.File
	failed bool
}

// run measures one scenario and adds its row. The error is ctx's.
func (s *session) run(ctx context.Context, sc scenario.Scenario) error {
	row := result.Row{Scenario: sc.Name, Title: sc.Title}
	curves := map[string]*hdrhistogram.Histogram{}
	peers := s.takePart(sc)
	rounds := s.pairs
	if sc.Pairs > 0 {
		rounds = min(sc.Pairs, rounds)
	}
	result.PrintTitle(os.Stdout, sc.Name, sc.Title)
	err := s.rounds(ctx, sc, peers, &row, curves, 0, rounds)
	if err == nil && target.InDoubt(&row, subject) {
		fmt.Println("  a target is in doubt: measuring as often again")
		row.Doubled = true
		err = s.rounds(ctx, sc, peers, &row, curves, rounds, 2*rounds)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	switch {
	case errors.Is(err, scenario.ErrSkip):
		row.Skipped = err.Error()
	case err != nil:
		row.Error = err.Error()
		s.failed = true
	}
	row.Summarize(subject)
	row.Curves = points(curves)
	s.file.Rows = append(s.file.Rows, row)
	result.PrintRow(os.Stdout, &row, sc.Show, subject)
	return nil
}

// takePart returns who takes turns in sc.
func (s *session) takePart(sc scenario.Scenario) []peer.Peer {
	return slices.DeleteFunc(slices.Clone(s.peers), func(p peer.Peer) bool {
		return sc.Peers != nil && !slices.Contains(sc.Peers, p.Name())
	})
}

// rounds measures the rounds from first up to, not including, end.
func (s *session) rounds(ctx context.Context, sc scenario.Scenario, peers []peer.Peer, row *result.Row, curves map[string]*hdrhistogram.Histogram, first, end int) error {
	for round := first; round < end; round++ {
		order := slices.Clone(peers)
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for _, p := range order {
			turn, err := sc.Measure(ctx, s.rig, p)
			if err != nil {
				return fmt.Errorf("%s, round %d: %w", p.Name(), round+1, err)
			}
			row.Samples = append(row.Samples, result.Sample{Peer: p.Name(), Round: round, Values: turn.Values})
			if turn.Latency != nil {
				if curves[p.Name()] == nil {
					curves[p.Name()] = load.NewHistogram()
				}
				curves[p.Name()].Merge(turn.Latency)
			}
			result.PrintTurn(os.Stderr, round, p.Name(), sc.Show, turn.Values)
		}
	}
	return nil
}

// judge fills in the targets.
func (s *session) judge() {
	s.file.Took = time.Since(s.began).Round(time.Second).String()
	for _, t := range target.All {
		s.file.Targets = append(s.file.Targets, t.Judge(s.file.Row(t.Scenario), subject))
	}
}

// introduce says what will be measured where.
func (s *session) introduce() {
	fmt.Println(s.file.Machine)
	for _, p := range s.peers {
		fmt.Printf("%-8s %s\n", p.Name(), p.Version())
	}
	for _, m := range s.file.Missing {
		fmt.Println("NOT compared:", m)
	}
}

// points are a curve's percentiles, denser where it is interesting.
func points(curves map[string]*hdrhistogram.Histogram) map[string][]result.Point {
	at := []float64{0, 10, 20, 30, 40, 50, 60, 70, 75, 80, 85, 90, 92.5, 95, 97.5, 99, 99.5, 99.9, 99.95, 99.99, 99.999, 100}
	out := map[string][]result.Point{}
	for name, h := range curves {
		for _, p := range at {
			out[name] = append(out[name], result.Point{Percentile: p, Micros: float64(h.ValueAtQuantile(p)) / 1e3})
		}
	}
	return out
}
