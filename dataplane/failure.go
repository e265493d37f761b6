package dataplane

import (
	"log/slog"
	"net/netip"
	"syscall"
	"time"

	"dill/dataplane/route"
)

const (
	// failureEvery is how often failureLog looks at backends that fail, and
	// failureLines how many of them it tells of at once; the rest have their turn
	// at the next look.
	failureEvery = time.Second
	failureLines = 5

	// A backend that goes on failing is told of again after failureFirst,
	// doubling to failureMost.
	failureFirst = time.Minute
	failureMost  = time.Hour

	// One that fails for another reason than was told is news after so long.
	failureNews = 5 * time.Second
)

// failureLog tells of backends that cannot be connected to and are tried
// nevertheless, as the only one of a listener always is; ejections are told by
// themselves. It reads what the loops count anyway, so that a flood of clients
// costs them nothing, and is bounded by the backends in the table.
type failureLog struct {
	log  *slog.Logger
	told map[*route.BackendState]*toldFailure
}

// toldFailure is a backend whose failure was told of.
type toldFailure struct {
	at     int64         // monotonic ns
	wait   time.Duration // before it is told again
	failed uint64        // attempts that had failed by then
	cause  syscall.Errno // that was told
	over   bool          // it could be connected to since
	seen   bool          // in the table, as of the present look
}

// busy reports whether there is something to look at although nothing has
// failed since the last look.
func (f *failureLog) busy() bool { return len(f.told) > 0 }

// look tells what is new at now, in monotonic nanoseconds, of the backends in t.
func (f *failureLog) look(now int64, t *route.Table) {
	lines := failureLines
	for _, l := range t.Listeners {
		for _, b := range l.Backends {
			told := f.told[b.State]
			if told != nil {
				told.seen = true
			}
			fails := b.State.Failure()
			switch {
			case fails.Count == 0:
				f.recovered(l.Addr, b, told)
			case b.State.Ejection().Until != 0:
				// left out, which was told
			case lines > 0 && told.due(now, b.State.Failed.Load(), fails.Cause):
				lines--
				f.tell(now, l.Addr, b, fails)
			}
		}
	}
	for state, told := range f.told {
		// One that is over is kept until it may be told of again: a backend that
		// flaps is no news each time.
		if !told.seen || told.over && now-told.at >= int64(told.wait) {
			delete(f.told, state)
		}
		told.seen = false
	}
}

// due reports whether a backend that was told of as t says (nil: never) is to be
// told of at now, after that many failed attempts, the last for this cause.
func (t *toldFailure) due(now int64, failed uint64, cause syscall.Errno) bool {
	if t == nil {
		return true
	}
	wait := t.wait
	if cause != t.cause {
		wait = failureNews
	}
	return now-t.at >= int64(wait) && failed > t.failed
}

func (f *failureLog) tell(now int64, listener netip.AddrPort, b *route.Backend, fails route.Failure) {
	args := []any{attrListener, listener, attrBackend, b.Target(), attrErr, fails.Reason(), attrFailures, fails.Count}
	if b.Socks != nil {
		args = append(args, attrProxy, b.Socks.Addr)
	}
	if d := time.Duration(now - fails.Since).Round(time.Second); d > 0 {
		args = append(args, attrFor, d)
	}
	f.log.Warn("backend cannot be connected to", args...)
	next := &toldFailure{at: now, wait: failureFirst, failed: b.State.Failed.Load(), cause: fails.Cause, seen: true}
	if old := f.told[b.State]; old != nil && !old.over {
		next.wait = min(2*old.wait, failureMost)
	}
	if f.told == nil {
		f.told = make(map[*route.BackendState]*toldFailure)
	}
	f.told[b.State] = next
}

// recovered tells, once, that a backend can be connected to again.
func (f *failureLog) recovered(listener netip.AddrPort, b *route.Backend, told *toldFailure) {
	if told != nil && !told.over {
		told.over = true
		f.log.Info("backend can be connected to again", attrListener, listener, attrBackend, b.Target())
	}
}
