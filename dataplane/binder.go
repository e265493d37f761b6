package dataplane

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"dill/dataplane/internal/sys"
	"dill/dataplane/route"
)

// A port that cannot be bound is tried again after bindFirst, doubling to
// bindMost.
const (
	bindFirst = 100 * time.Millisecond
	bindMost  = 5 * time.Second
)

// binder keeps the listening sockets in step with the newest table. It opens
// them, one per loop and all of an address or none, and hands them to the
// loops, which own them from then on.
type binder struct {
	// Constant after newBinder.
	engine *Engine
	wake   chan struct{} // a table was published; holds one
	quit   chan struct{}
	done   chan struct{}

	// Owned by run.
	open   map[netip.AddrPort]bool
	failed map[netip.AddrPort]*bindFailure
	table  *route.Table // reconciled last
	news   portNews     // of this reconciliation

	// Guarded by mu.
	mu    sync.Mutex
	state map[netip.AddrPort]error
}

type bindFailure struct {
	err   error
	wait  time.Duration
	retry time.Time
}

func newBinder(e *Engine) *binder {
	return &binder{
		engine: e,
		wake:   make(chan struct{}, 1),
		quit:   make(chan struct{}),
		done:   make(chan struct{}),
		open:   make(map[netip.AddrPort]bool),
		failed: make(map[netip.AddrPort]*bindFailure),
		table:  new(route.Table),
	}
}

// poke has the newest table looked at.
func (b *binder) poke() {
	select {
	case b.wake <- struct{}{}:
	default: // one is waiting, and it will load the newest
	}
}

// stop closes every listener and ends run.
func (b *binder) stop() {
	close(b.quit)
	<-b.done
}

// listening is Engine.Listening.
func (b *binder) listening() map[netip.AddrPort]error {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := make(map[netip.AddrPort]error, len(b.state))
	for _, l := range b.engine.table.Load().Listeners {
		err, known := b.state[l.Addr]
		if !known {
			err = errNotYet
		}
		m[l.Addr] = err
	}
	return m
}

var errNotYet = errors.New("about to be opened")

func (b *binder) run() {
	defer close(b.done)
	retry := time.NewTimer(time.Hour)
	defer retry.Stop()
	for {
		select {
		case <-b.quit:
			b.closeAll(slices.Collect(maps.Keys(b.open)), noDrain)
			return
		case <-b.wake:
		case <-retry.C:
		}
		next := b.reconcile(b.engine.table.Load())
		if !next.IsZero() {
			retry.Reset(time.Until(next))
		}
	}
}

// reconcile closes what t does not have, opens what it has, and returns when
// the next failed one is to be tried again; zero for never.
func (b *binder) reconcile(t *route.Table) (next time.Time) {
	var gone []netip.AddrPort
	for addr := range b.open {
		if t.Lookup(addr) == nil {
			gone = append(gone, addr)
		}
	}
	slices.SortFunc(gone, netip.AddrPort.Compare)
	maps.DeleteFunc(b.failed, func(addr netip.AddrPort, _ *bindFailure) bool { return t.Lookup(addr) == nil })
	// Close first: an address that overlaps one of these may be wanted next.
	b.closeAll(gone, b.engine.cfg.Load().DrainTimeout)
	for _, addr := range gone {
		b.news.closed = append(b.news.closed, b.table.Lookup(addr))
	}
	if old := b.table; b.leavers(t) {
		for _, l := range b.engine.loops {
			l.post(func() error { l.drainLeavers(old, t); return nil })
		}
	}
	now := time.Now()
	for _, r := range t.Listeners {
		f := b.failed[r.Addr]
		if b.open[r.Addr] || f != nil && now.Before(f.retry) {
			continue
		}
		err := b.bind(r.Addr)
		if err == nil {
			delete(b.failed, r.Addr)
			b.open[r.Addr] = true
			b.news.opened = append(b.news.opened, r)
			continue
		}
		if f == nil {
			f = &bindFailure{wait: bindFirst}
			b.failed[r.Addr] = f
		} else {
			f.wait = min(bindMost, 2*f.wait)
		}
		if f.err == nil || f.err.Error() != err.Error() {
			b.engine.log.Warn("port cannot be opened, will retry", attrListener, r.Addr, attrErr, err)
		}
		f.err, f.retry = err, now.Add(f.wait)
	}
	b.table = t
	b.publishState()
	b.news.log(b.engine.log)
	b.news = portNews{}
	for _, f := range b.failed {
		if next.IsZero() || f.retry.Before(next) {
			next = f.retry
		}
	}
	return next
}

// leavers reports whether a backend left a listener that limits the time its
// sessions may stay.
func (b *binder) leavers(t *route.Table) bool {
	for _, r := range t.Listeners {
		if r.DrainTimeout <= 0 {
			continue
		}
		if old := b.table.Lookup(r.Addr); old != nil {
			for _, be := range old.Backends {
				if r.Backend(be) == nil {
					return true
				}
			}
		}
	}
	return false
}

// bind opens addr on every loop, or on none.
func (b *binder) bind(addr netip.AddrPort) error {
	if e := sys.Probe(addr); e != 0 {
		return b.explain(addr, e)
	}
	cfg := b.engine.cfg.Load()
	opt := sys.ListenOptions{Backlog: cfg.Backlog, KeepAlive: cfg.KeepAlive, UserTimeout: cfg.UserTimeout}
	fds := make([]int32, 0, len(b.engine.loops))
	for range b.engine.loops {
		fd, e := sys.Listen(addr, opt)
		if e != 0 {
			for _, fd := range fds {
				sys.Close(fd)
			}
			return b.explain(addr, e)
		}
		fds = append(fds, fd)
	}
	for i, l := range b.engine.loops {
		l.post(func() error { l.listen(addr, fds[i]); return nil })
	}
	return nil
}

func (b *binder) explain(addr netip.AddrPort, e sys.Errno) error {
	switch {
	case e == sys.EADDRINUSE && addr.Port() >= b.engine.ephemeral[0] && addr.Port() <= b.engine.ephemeral[1]:
		return fmt.Errorf("listen %s: %w by another process or as the source port of a connection; reserve it with sysctl net.ipv4.ip_local_reserved_ports", addr, e)
	case e == sys.EADDRINUSE:
		return fmt.Errorf("listen %s: %w by another process (a port that must stay free for dill belongs in sysctl net.ipv4.ip_local_reserved_ports)", addr, e)
	case e == sys.EADDRNOTAVAIL:
		return fmt.Errorf("listen %s: %w: this host does not have the address", addr, e)
	case e == sys.EACCES:
		return fmt.Errorf("listen %s: %w: a port below net.ipv4.ip_unprivileged_port_start needs CAP_NET_BIND_SERVICE", addr, e)
	}
	return fmt.Errorf("listen %s: %w", addr, e)
}

// closeAll closes addrs on every loop and waits until it is done, so that a
// port that comes back at once is not met by its own remains.
func (b *binder) closeAll(addrs []netip.AddrPort, drain time.Duration) {
	if len(addrs) == 0 {
		return
	}
	t := b.table
	// Said before it is done: an address that is published again meanwhile must
	// not pass for open because it was.
	for _, addr := range addrs {
		delete(b.open, addr)
	}
	b.publishState()
	var wg sync.WaitGroup
	for _, l := range b.engine.loops {
		wg.Add(1)
		l.post(func() error {
			defer wg.Done()
			l.unlisten(addrs, t, drain)
			return nil
		})
	}
	wg.Wait()
}

func (b *binder) publishState() {
	m := make(map[netip.AddrPort]error, len(b.open)+len(b.failed))
	for addr := range b.open {
		m[addr] = nil
	}
	for addr, f := range b.failed {
		m[addr] = f.err
	}
	b.mu.Lock()
	b.state = m
	b.mu.Unlock()
}
