package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"dill/bench/peer"
	"dill/bench/result"
	"dill/bench/scenario"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := dispatch(ctx, os.Args[1:])
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "\nbench: interrupted; everything is cleaned up")
		os.Exit(130)
	default:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// dispatch runs the subcommand that args name; without one, the benchmarks.
func dispatch(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return measure(ctx, nil)
	}
	// Commands may be written like flags: the Makefile does.
	command := strings.TrimLeft(args[0], "-")
	if command != "compare" && command != "readme" && strings.HasPrefix(args[0], "-") {
		return measure(ctx, args)
	}
	args = args[1:]
	switch {
	case command == scenario.SinkArg && len(args) == 2: // by this program itself
		n, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		return scenario.RunSink(args[0], n)
	case command == scenario.LoadArg: // by this program itself
		return scenario.RunLoad(ctx)
	case command == peer.GoArg && len(args) == 2: // by this program itself
		return peer.ServeGo(ctx, args[0], strings.Split(args[1], ","))
	case command == peer.FloorArg && len(args) == 3: // by this program itself
		return peer.ServeFloor(ctx, args[0], args[1], args[2])
	case command == "list":
		return list()
	case command == "compare" && len(args) == 2:
		return compare(args[0], args[1])
	case command == "compare":
		return errors.New("want two results: OLD=a.json NEW=b.json")
	case command == "plot" && len(args) == 1:
		return plot(args[0])
	case command == "readme":
		return readme(args)
	}
	return fmt.Errorf("no command is called %q; there are: list, compare OLD NEW, plot RESULT, readme", command)
}

// list prints what can be chosen.
func list() error {
	fmt.Println("Scenarios:")
	for _, s := range scenario.All() {
		fmt.Printf("  %-12s %s\n", s.Name, s.Title)
	}
	fmt.Println("\nPeers:")
	found, missing, err := findPeers("", "", nil)
	if err != nil {
		return err
	}
	for _, p := range found {
		fmt.Printf("  %-12s %s\n", p.Name(), p.Version())
	}
	for _, m := range missing {
		fmt.Println("  not here:   ", m)
	}
	return nil
}

// compare prints what changed, and fails when dill got worse.
func compare(before, after string) error {
	a, err := result.Read(before)
	if err != nil {
		return err
	}
	b, err := result.Read(after)
	if err != nil {
		return err
	}
	if result.Compare(os.Stdout, a, b, subject) {
		return errors.New("dill got worse")
	}
	return nil
}

// plot draws a result's plots again, beside it.
func plot(path string) error {
	f, err := result.Read(path)
	if err != nil {
		return err
	}
	return f.Plot(filepath.Dir(path))
}

// readme refreshes the results beside this file from the latest run.
func readme(args []string) error {
	flags := flag.NewFlagSet("readme", flag.ContinueOnError)
	from := flags.String("from", filepath.Join("bench", "results", "latest.json"), "the `result` to show")
	into := flags.String("into", filepath.Join("bench", "README.md"), "the `file` to show it in")
	if err := flags.Parse(args); err != nil {
		return err
	}
	f, err := result.Read(*from)
	if err != nil {
		return err
	}
	if f.Quick {
		return fmt.Errorf("%s is of a quick run, whose figures mean little", *from)
	}
	if f.Busy() {
		fmt.Fprintf(os.Stderr, "bench: %s is of a machine that was busy with something else (load %.1f)\n", *from, f.Load)
	}
	return f.Readme(*into, filepath.Dir(*from))
}
