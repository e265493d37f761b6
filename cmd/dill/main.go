// Command dill is a TCP proxy whose ports come from service discovery: a
// service that carries the tags "dill" and "dill.listener=<label>:<port>" gets
// that port opened here, balanced over its healthy instances, for as long as it
// has any.
//
// This package only puts the parts together: it reads the configuration, starts
// the data plane, the publisher, the sources and Peek, and turns signals into
// what they mean (see process).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"dill/controlplane/config"
	"dill/dataplane"
)

// version is set by the linker: -X main.version=v1.2.3.
var version = "dev"

// The exit statuses.
const (
	exitOK     = 0
	exitFailed = 1 // started, and could not go on
	exitUsage  = 2 // arguments or configuration are not accepted
)

func main() {
	environ := os.Environ()
	hideClientVariables(environ)
	os.Exit(run(context.Background(), os.Args[1:], environ, os.Stdout, os.Stderr))
}

// hideClientVariables takes CONSUL_* and NOMAD_* out of the process's own
// environment. The client libraries read them by themselves and let some
// overrule what they are told: CONSUL_HTTP_SSL an http:// address, a
// CONSUL_HTTP_TOKEN_FILE that is not there every token. Package config has read
// them from environ, and gives them the rank they are documented to have.
func hideClientVariables(environ []string) {
	for _, v := range environ {
		name, _, _ := strings.Cut(v, "=")
		if strings.HasPrefix(name, "CONSUL_") || strings.HasPrefix(name, "NOMAD_") {
			_ = os.Unsetenv(name) // fails only for names that cannot be
		}
	}
}

const usage = `dill is a TCP proxy whose ports come from service discovery.

  dill [-config FILE]
  dill help | version

  -config FILE  read settings from FILE: .toml, .yaml, .json, .hcl, .env or .properties
  -check        check the settings, the routing file and whether the state file can be
                written, print the settings, where each comes from, and what of the routing
                file is refused, and exit
  -version      print the version and exit
  -help         print this and exit

Every setting can come from the environment too, as DILL_ and its name: DILL_PEEK_LISTENER
sets peek.listener. The environment beats the file, the file beats the default.

Signals:
  TERM, INT  stop accepting, let connections finish up to shutdown.timeout, and exit;
             the second one ends them at once, with status 1
  HUP        read the settings again; a mistake in them changes nothing
  USR1       print all counters on standard output

Exit status: 0 after TERM or INT, 1 after a second one or if dill could not go on, 2 if the
arguments or the settings are not accepted.
`

// command splits off the word that stands for -help or -version, "" if there is
// none.
func command(args []string) (word string, rest []string) {
	if len(args) > 0 && (args[0] == "help" || args[0] == "version") {
		return args[0], args[1:]
	}
	return "", args
}

// run is dill as a function: it returns the exit status. Cancelling ctx is like
// SIGTERM.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	refuse := func(err error) int {
		fmt.Fprintln(stderr, "dill:", err)
		return exitUsage
	}
	flags := flag.NewFlagSet("dill", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // its usage lists flags that usage does not
	path := flags.String("config", "", "")
	checkOnly := flags.Bool("check", false, "")
	printVersion := flags.Bool("version", false, "")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		return exitOK
	case err != nil:
		return refuse(fmt.Errorf("%w; dill -help lists what there is", err))
	}
	word, rest := command(flags.Args())
	switch {
	case len(rest) > 0:
		return refuse(fmt.Errorf("unexpected argument %q; a file is given as -config FILE", rest[0]))
	case word == "help":
		fmt.Fprint(stdout, usage)
		return exitOK
	case *printVersion || word == "version":
		fmt.Fprintln(stdout, "dill", version)
		return exitOK
	}

	// A supervisor may ask for a reload as soon as dill runs, and Go's own handling
	// of these kills.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGUSR1)
	defer signal.Stop(signals)

	cfg, err := config.LoadWith(*path, environ)
	if err != nil {
		return refuse(err)
	}
	logging := newLogging(stderr, cfg.Log, environ)
	defer logging.flush()
	openFiles, _ := dataplane.RaiseOpenFiles() // the start tells of an error; it is what is in force in any case
	wanted, err := newSources(cfg, openFiles, logging.log)
	if err != nil {
		return refuse(err)
	}
	if *checkOnly {
		status := check(cfg, stdout, stderr)
		if status == exitOK {
			advise(cfg, openFiles, logging.log)
		}
		return status
	}
	p, err := start(cfg, environ, wanted, logging, stdout, signals)
	if err != nil {
		logging.flush()
		fmt.Fprintln(stderr, "dill:", err)
		return exitFailed
	}
	return p.live(ctx)
}
