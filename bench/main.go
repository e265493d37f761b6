package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"dill/bench/peer"
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
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return measure(ctx, args)
	}
	command, args := args[0], args[1:]
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
		return peer.ServeGo(args[0], strings.Split(args[1], ","))
	case command == "list":
		return list()
	}
	return fmt.Errorf("no command is called %q; there are: list", command)
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
