package main

import (
	"context"
	"fmt"
	"os/signal"
	"syscall"

	"dill/controlplane/config"
	"dill/dataplane"
)

// live serves until dill is told to end, and returns the exit status.
//
//	serving ──HUP──▶ reload ─▶ serving
//	   │ ────USR1──▶ counters ─▶ serving
//	   ▼ TERM, INT, or the end of ctx
//	draining ──every connection has finished──────────▶ exit 0
//	   │ ─────shutdown.timeout: the rest is reset─────▶ exit 0
//	   └ ─────TERM, INT again: the rest is reset now──▶ exit 1
func (p *process) live(ctx context.Context) int {
	defer signal.Stop(p.signals)
	for {
		select {
		case <-ctx.Done():
			return p.end("")
		case s := <-p.signals:
			switch s {
			case syscall.SIGHUP:
				p.reload()
			case syscall.SIGUSR1:
				p.printCounters()
			default:
				return p.end(s.String())
			}
		}
	}
}

// end stops accepting, lets connections finish and ends everything. why is the
// signal that asked for it.
func (p *process) end(why string) int {
	log, timeout := p.logging.log, p.config.Shutdown.Timeout
	log.Info("dill ends", keySignal, why, keyTimeout, timeout, keySessions, dataplane.Stats().Sessions)

	// Nothing decides about routes any more; the state file gets the last word.
	p.runner.stop(nil)
	p.deciding.end()
	p.keeping.end()
	p.resolver.Close()

	// Peek goes on: it is of use to whoever wonders what is taking so long.
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	drained := make(chan error, 1)
	go func() { drained <- p.engine.Shutdown(ctx) }()
	status := exitOK
	for waiting := true; waiting; {
		select {
		case err := <-drained:
			waiting = false
			if err != nil {
				log.Warn("connections reset that did not finish", keySessions, dataplane.Stats().Get("shutdown_reset"))
			}
		case s := <-p.signals:
			switch s {
			case syscall.SIGUSR1:
				p.printCounters()
			case syscall.SIGTERM, syscall.SIGINT:
				log.Warn("second signal, not waiting any longer", keySignal, s.String())
				status = exitFailed
				cancel()
			}
		}
	}
	p.telling.end()
	p.printCounters()
	log.Info("dill ended")
	return status
}

// printCounters writes one counter a line to standard output.
func (p *process) printCounters() {
	if _, err := fmt.Fprint(p.stdout, dataplane.Stats()); err != nil {
		p.logging.log.Warn("counters not printed", keyErr, err)
	}
}

// reload reads the configuration again and applies it completely or, if there
// is any mistake in it, not at all.
func (p *process) reload() {
	log := p.logging.log
	cfg, err := config.LoadWith(p.config.Path(), p.environ)
	if err != nil {
		log.Error("configuration not accepted, the old one stays", keyErr, err)
		return
	}
	next, err := newSources(cfg, log)
	if err != nil {
		log.Error("configuration not accepted, the old one stays", keyErr, err)
		return
	}
	p.logging.level.Set(cfg.Log.Level)
	for _, c := range config.Changes(p.config, cfg) {
		log.Info("setting changed", keySetting, c.Key, keyOld, c.Old, keyNew, c.New)
	}
	// Held against what runs, not against the last reload: what is pending is
	// named until it is done or taken back.
	if pending := config.NeedsRestart(config.Changes(p.started, cfg)); len(pending) > 0 {
		log.Warn("settings take effect at the next start", keySettings, pending)
	}
	p.config = cfg
	p.engine.Reconfigure(planeConfig(cfg, p.openFiles))
	p.runner.stop(next)
	p.publisher.Configure(p.settings(cfg, next))
	p.runner.run(next)
	log.Info("configuration read again", keyConfig, cfg.Path(), keySources, cfg.Sources())
}
