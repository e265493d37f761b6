package main

import (
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strings"

	"dill/controlplane/compile"
	"dill/controlplane/config"
	"dill/controlplane/source"
	"dill/controlplane/source/file"
	"dill/controlplane/source/routing"
	"dill/controlplane/state"
)

// check is `dill -check`: it prints the settings and what is wrong with single
// entries of the routing file, as comments behind them, and returns the exit
// status. A routing file of which nothing can be used, and a state file that could
// not be written, are refused like a configuration, in one line.
func check(cfg *config.Config, stdout, stderr io.Writer) int {
	var doc routing.Document
	if path := cfg.File.Path; path != "" {
		var err error
		if doc, err = file.Read(path); err != nil {
			fmt.Fprintf(stderr, "dill: %s: %v\n", path, err)
			return exitUsage
		}
	}
	if path := cfg.State.Path; path != "" {
		kept := state.New(path, slog.New(slog.DiscardHandler))
		_, err := within(restoreLimit, func() (struct{}, error) { return struct{}{}, kept.Check() })
		if err != nil {
			fmt.Fprintf(stderr, "dill: state.path: %s: %v\n", path, err)
			return exitUsage
		}
	}
	if err := cfg.Print(stdout); err != nil {
		return exitFailed
	}
	for _, line := range mistakes(cfg, doc) {
		if _, err := fmt.Fprintf(stdout, "# %s: %s\n", cfg.File.Path, line); err != nil {
			return exitFailed
		}
	}
	return exitOK
}

// mistakes lists what of a routing document is not served as it stands there,
// whatever other sources say. Names are taken to have an address: looking them up
// is not for a check.
func mistakes(cfg *config.Config, doc routing.Document) (lines []string) {
	for _, p := range doc.Problems {
		if p.Entry < 0 {
			lines = append(lines, p.Error())
		}
	}
	options := compileOptions(cfg)
	for _, a := range []netip.AddrPort{cfg.Peek.Listener, cfg.Debug.Pprof} {
		if a.IsValid() {
			options.Reserved = append(options.Reserved, a)
		}
	}
	result := compile.Compile(options, compile.Input{
		Snapshots: []source.Snapshot{{Source: "file", Services: doc.Services, Synced: true}},
		Hosts: func(string) ([]netip.Addr, error) {
			return []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, 1})}, nil // RFC 5737: nobody's
		},
	})
	for _, f := range result.Refused {
		who := strings.Join(strings.Fields(f.Service+" "+f.Instance+" "+f.Claim), " ")
		lines = append(lines, "refused: "+who+": "+f.Reason)
	}
	return lines
}
