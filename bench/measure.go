package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"dill/bench/peer"
	"dill/bench/registry"
	"dill/bench/result"
	"dill/bench/scenario"
	"dill/controlplane/consultest"
)

// measure runs the benchmarks that args ask for.
func measure(ctx context.Context, args []string) (err error) {
	o, err := parseOptions(args)
	if err != nil {
		return err
	}
	scenarios, err := o.choose()
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
	s, err := o.prepare(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.rig.StartSink(ctx, 2); err != nil {
		return err
	}
	s.introduce(os.Stdout)
	s.plan(scenarios)
	for _, sc := range scenarios {
		if err := s.run(ctx, sc); err != nil {
			return err // only for the end of ctx
		}
	}
	s.judge()
	result.PrintTargets(os.Stdout, s.file)
	if o.out != "" {
		if err := s.file.Save(o.out); err != nil {
			return err
		}
		fmt.Printf("\nWritten to %s: latest.json and plots.\n", o.out)
	}
	if n := s.failed; n > 0 {
		return fmt.Errorf("%d scenarios failed, see FAILED above", n)
	}
	return nil
}

// prepare makes the session that o asks for: the programs to run, but nothing
// that runs yet except Consul.
func (o *options) prepare(ctx context.Context, dir string) (*session, error) {
	load := result.LoadAverage() // before anything is built
	rig := &scenario.Rig{Dir: dir, Warmup: o.warmup, Duration: o.duration, Threads: o.threads, Quick: o.quick}
	var err error
	if rig.User, err = o.unprivileged(); err != nil {
		return nil, err
	}
	if rig.Self, err = copySelf(dir); err != nil {
		return nil, err
	}
	rig.Dill = &peer.Dill{Path: o.dill, Ver: o.dill, Env: o.settings}
	if o.dill == "" {
		if rig.Dill.Path, rig.Dill.Ver, err = buildDill(ctx, dir); err != nil {
			return nil, err
		}
	} else if rig.Dill.Path, err = filepath.Abs(o.dill); err != nil {
		return nil, err
	}
	if o.profile {
		if err := rig.EnableProfiles(ctx, filepath.Join(o.out, "profiles")); err != nil {
			fmt.Fprintf(os.Stderr, "\nPROFILE: there will be NO profiles: %v\n", err)
		}
	}
	s := &session{rig: rig, pairs: o.pairs, double: !o.quick, began: time.Now()}
	peers, missing, err := findPeers(o.peers, rig.Self, rig.Dill)
	if err != nil {
		return nil, err
	}
	s.peers = peers
	s.file = &result.File{
		Schema: result.Schema, Began: s.began.UTC().Truncate(time.Second), Quick: o.quick,
		Dill: rig.Dill.Ver, Source: "file", Missing: missing,
		Settings: result.Settings{Pairs: o.pairs, Duration: o.duration.String(), Warmup: o.warmup.String()},
		Machine:  result.ThisMachine(), Load: load,
	}
	if err := s.openConsul(ctx, o.source); err != nil {
		return s, err
	}
	return s, s.holdAgainst(o.against)
}

// holdAgainst adds another dill, if path names one, that differs from the
// subject in nothing but the binary.
func (s *session) holdAgainst(path string) (err error) {
	if path == "" {
		return nil
	}
	other := s.rig.Dill.With(before)
	other.Ver = path
	other.Path, err = filepath.Abs(path)
	s.peers = append(s.peers, other)
	return err
}

// openConsul puts dill behind Consul, as source says: "consul", "file", or
// "auto" for Consul where there is one.
func (s *session) openConsul(ctx context.Context, source string) error {
	if source == "file" {
		return nil
	}
	if _, err := consultest.Binary(); err != nil && os.Getenv(registry.AddrVar) == "" {
		if source == "consul" {
			return err
		}
		s.file.Missing = append(s.file.Missing, "consul: "+err.Error()+"; dill reads a routing file instead")
		return nil
	}
	reg, err := registry.Open(ctx, s.rig.Dir)
	if err != nil {
		return err
	}
	s.consul = reg
	s.rig.Dill.Announce = reg.Announce
	s.file.Source = "consul"
	s.file.Consul = reg.Version()
	return nil
}
