package main

import (
	"context"
	"fmt"
	"os/signal"
	"syscall"
	"time"

	"dill/dataplane"
)

// live serves until dill is told to end, and returns the exit status. Nothing in
// it waits for a file, a source or a server: however long those take, signals are
// heard.
//
//	serving ──HUP──▶ reading, beside everything else ─▶ apply ─▶ serving
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
		case r := <-p.readings:
			p.take(r)
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
	settled, hurry := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(settled)
		p.settle(hurry)
	}()

	// Peek goes on: it is of use to whoever wonders what is taking so long.
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	drained := make(chan error, 1)
	go func() { drained <- p.engine.Shutdown(ctx) }()
	status := exitOK
	for drained != nil || settled != nil {
		select {
		case <-settled:
			settled = nil
		case err := <-drained:
			drained = nil
			if err != nil {
				log.Warn("connections reset that did not finish", keySessions, dataplane.Stats().Get("shutdown_reset"))
			}
		case s := <-p.signals:
			switch s {
			case syscall.SIGUSR1:
				p.printCounters()
			case syscall.SIGTERM, syscall.SIGINT:
				log.Warn("second signal, not waiting any longer", keySignal, s.String())
				if status == exitOK {
					close(hurry)
				}
				status = exitFailed
				cancel()
			}
		}
	}
	p.telling.end(lastWord, hurry)
	log.Info("dill ended")
	return status
}

// lastWord is how long the end waits for a goroutine that is told to go: enough
// to write the state file, and a bound where a file system or a server hangs.
const lastWord = 2 * time.Second

// lastChance is how long it waits after a second signal: what does not hang is
// done by then.
const lastChance = 200 * time.Millisecond

// settle ends what decides about routes and what keeps them.
func (p *process) settle(hurry <-chan struct{}) {
	log := p.logging.log
	if !p.deciding.end(lastWord, hurry) {
		log.Warn("publisher does not end, not waiting any longer")
	}
	if !p.keeping.end(lastWord, hurry) {
		log.Error("last good table not saved, the file does not answer", keyPath, p.started.State.Path)
	}
	p.resolver.Close()
}

// printCounters writes one counter a line to standard output, on a goroutine of
// its own: that may be a pipe which nobody reads. Until it is done, asking again
// does nothing.
func (p *process) printCounters() {
	if !p.printing.CompareAndSwap(false, true) {
		return
	}
	counters := dataplane.Stats()
	p.telling.wg.Go(func() {
		defer p.printing.Store(false)
		if _, err := fmt.Fprint(p.stdout, counters); err != nil {
			p.logging.log.Warn("counters not printed", keyErr, err)
		}
	})
}
