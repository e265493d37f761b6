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

	// Peek goes on: it is of use to whoever wonders what is taking so long.
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	e := ending{p, make(chan struct{}), cancel, exitOK}
	drained := make(chan struct{})
	e.hear(func() {
		go func() {
			defer close(drained)
			if p.engine.Shutdown(ctx) != nil {
				log.Warn("connections reset that did not finish", keySessions, dataplane.Stats().Get("shutdown_reset"))
			}
		}()
		p.settle(e.hurry)
		<-drained
	}, p.printCounters)
	e.hear(func() { p.telling.end(lastWord, e.hurry) }, func() {})
	log.Info("dill ended")
	return e.status
}

// ending is the end, as signals change it.
type ending struct {
	p      *process
	hurry  chan struct{} // closed by the second signal
	reset  func()        // resets the connections that are left
	status int
}

// hear does something and hears signals meanwhile.
func (e *ending) hear(do, counters func()) {
	done := make(chan struct{})
	go func() { defer close(done); do() }()
	for {
		select {
		case <-done:
			return
		case s := <-e.p.signals:
			switch s {
			case syscall.SIGUSR1:
				counters()
			case syscall.SIGTERM, syscall.SIGINT:
				e.second(s.String())
			}
		}
	}
}

// second is what a second signal does, and a third one does no more.
func (e *ending) second(signal string) {
	if e.status != exitOK {
		return
	}
	e.p.logging.log.Warn("second signal, not waiting any longer", keySignal, signal)
	e.status = exitFailed
	e.reset()
	close(e.hurry)
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
