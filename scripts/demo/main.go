// Command demo shows dill's main job on this machine, from nothing to a port
// that opens, balances and closes, and checks every claim it prints:
//
//	make demo          the whole story, about 15 seconds
//	KEEP=1 make demo   up to the open ports, then yours to play with
//
// It starts a Consul dev agent, backends (child processes of its own), and
// bin/dill, all on free loopback ports, and ends everything it started. The
// exit status is 0 only when all went as told.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// storyLimit bounds the whole run. It takes a fifth of it on two cores.
const storyLimit = time.Minute

func main() {
	dill := flag.String("dill", "bin/dill", "the dill binary to show")
	keep := flag.Bool("keep", false, "leave everything running until Ctrl-C")
	backend := flag.String("backend", "", "be the backend of this name (the demo starts itself so)")
	listen := flag.String("listen", "", "address of that backend")
	flag.Parse()

	if *backend != "" {
		serveBackend(*backend, *listen)
		return
	}

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := run(ctx, *dill, *keep)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		fmt.Println("\nInterrupted; everything is cleaned up.")
		os.Exit(130)
	default:
		fmt.Fprintf(os.Stderr, "\nThe demo did not go as it should: %v\n", err)
		os.Exit(1)
	}
}

// run tells the story, and cleans up however it ends.
func run(ctx context.Context, dill string, keep bool) (err error) {
	dill, err = filepath.Abs(dill)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "dill-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	limited, stop := context.WithTimeoutCause(ctx, storyLimit,
		fmt.Errorf("the story takes longer than %v", storyLimit))
	defer stop()
	limited, fail := context.WithCancelCause(limited)
	defer fail(nil)
	s := &stage{ctx: limited, fail: fail, dir: dir, dillPath: dill}
	defer func() {
		err = errors.Join(err, s.close())
	}()

	began := time.Now()
	acts := []func() error{s.startConsul, s.startBackends, s.startDill, s.balance, s.openLive}
	if !keep {
		acts = append(acts, s.killBackend, s.closePorts, s.stopDill)
	}
	for _, act := range acts {
		if err := act(); err != nil {
			if ctx.Err() == nil {
				s.printDillLog()
			}
			return err
		}
	}
	if keep {
		s.printHowToPlay()
		<-ctx.Done()
		fmt.Println("\nCleaning up.")
		return nil
	}
	heading("All as promised, in %.0f s. Now yours: KEEP=1 make demo", time.Since(began).Seconds())
	return nil
}
