package resolve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// ErrPending is what Lookup returns for a name whose first lookup has not
// been answered yet.
var ErrPending = errors.New("being looked up")

// Timeout bounds one lookup, all of its name servers and search domains
// included.
const Timeout = 10 * time.Second

const (
	// defaultTTL is how long an answer counts. net.Resolver does not tell the
	// record's own TTL; 30 s follows what cluster DNS servers hand out.
	defaultTTL = 30 * time.Second

	// negativeTTL is the first wait after a failed lookup. It doubles with
	// every further failure of the same name, up to negativeMax.
	negativeTTL = 5 * time.Second
	negativeMax = time.Minute

	// forgetAfter is how long a name stays known although nobody uses it. An
	// instance that flaps then finds its addresses where it left them.
	forgetAfter = 5 * time.Minute

	// Names are foreign input (Consul's service addresses), so what they can
	// cost is bounded: lookups at the same time, names known, addresses kept
	// of one answer.
	maxConcurrent = 16
	maxNames      = 16384
	maxAddrs      = 64
)

// LookupFunc resolves one name the slow way. It may block until ctx ends.
type LookupFunc func(ctx context.Context, host string) ([]netip.Addr, error)

// Resolver is a cache of names with a refresh of its own. All methods may be
// called from any goroutine; none waits for a lookup except Close.
type Resolver struct {
	// Constant after New.
	lookup  LookupFunc
	changed func()
	log     *slog.Logger
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	slots   chan struct{} // one token per running lookup

	mu     sync.Mutex
	names  map[string]*name
	closed bool
	wg     sync.WaitGroup // running lookups; Add only with mu held and !closed
}

// name is one cached name. Resolver.mu guards all of it.
type name struct {
	host     string
	addrs    []netip.Addr // last good answer; never modified, only replaced
	err      error        // of the newest lookup; ErrPending before the first
	failures int          // in a row
	timer    *time.Timer  // next refresh, nil while a lookup runs

	used      bool      // asked for since the last Sweep
	idleSince time.Time // Sweep that first found it unused, zero = in use
}

// New returns a Resolver that asks the system's resolver when lookup is nil.
// changed is called, from a goroutine of the Resolver and without any lock
// held, after the outcome for some name became another one; it must not block
// and may be nil. Close stops the Resolver.
func New(lookup LookupFunc, changed func(), log *slog.Logger) *Resolver {
	if lookup == nil {
		lookup = systemLookup
	}
	if changed == nil {
		changed = func() {}
	}
	r := &Resolver{
		lookup:  lookup,
		changed: changed,
		log:     log,
		slots:   make(chan struct{}, maxConcurrent),
		names:   make(map[string]*name),
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// Lookup returns the addresses of host: sorted, unique, IPv4 unmapped, never
// an empty list without an error. An IP literal is its own answer. For a name
// it never waits: the answer is the cached one, or ErrPending, or the error of
// the newest lookup if none ever succeeded. The caller must not modify the
// slice.
func (r *Resolver) Lookup(host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}, nil
	}
	if !ValidName(host) {
		return nil, fmt.Errorf("%.64q is neither an IP address nor a host name", host)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.names[host]
	if n == nil {
		if r.closed {
			return nil, ErrPending
		}
		if len(r.names) >= maxNames {
			return nil, fmt.Errorf("more than %d host names in use, %q is not looked up", maxNames, host)
		}
		n = &name{host: host, err: ErrPending}
		r.names[host] = n
		r.start(n)
	}
	n.used, n.idleSince = true, time.Time{}
	if n.addrs != nil {
		return n.addrs, nil
	}
	return nil, n.err
}

// Sweep marks the names that nobody has asked for since the Sweep before it.
// One that stays unused for five minutes is forgotten. Whoever walks over all
// instances in use calls it after each walk; without walks nothing changes
// hands, so nothing needs to be forgotten.
func (r *Resolver) Sweep() {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.names {
		switch {
		case n.used:
			n.used = false
		case n.idleSince.IsZero():
			n.idleSince = now
		}
	}
}

// Close stops all refreshing and waits for the lookups under way, which it
// cancels.
func (r *Resolver) Close() {
	r.mu.Lock()
	r.closed = true
	for _, n := range r.names {
		if n.timer != nil {
			n.timer.Stop()
		}
	}
	r.mu.Unlock()
	r.cancel()
	r.wg.Wait()
}

// start begins a lookup of n. r.mu is held.
func (r *Resolver) start(n *name) {
	n.timer = nil
	r.wg.Go(func() {
		select {
		case r.slots <- struct{}{}:
		case <-r.ctx.Done():
			return
		}
		ctx, cancel := context.WithTimeout(r.ctx, Timeout)
		addrs, err := r.lookup(ctx, n.host)
		cancel()
		<-r.slots
		if r.settle(n, normal(addrs), err) {
			r.changed()
		}
	})
}

// refresh runs when n's answer has aged out.
func (r *Resolver) refresh(n *name) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	if !n.idleSince.IsZero() && time.Since(n.idleSince) >= forgetAfter {
		delete(r.names, n.host)
		return
	}
	r.start(n)
}

// settle records the outcome of a lookup, arms the next one, and reports
// whether Lookup now answers differently.
func (r *Resolver) settle(n *name, addrs []netip.Addr, err error) (changed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	if err == nil && len(addrs) == 0 {
		err = errors.New("no address")
	}
	wait := defaultTTL
	if err != nil {
		wait = min(negativeTTL<<min(n.failures, 8), negativeMax)
		n.failures++
		changed = n.addrs == nil && (n.err == nil || n.err.Error() != describe(n.host, err).Error())
		n.err = describe(n.host, err)
		if n.failures == 1 {
			r.log.Warn("host name not resolved", "host", n.host, "err", err, "kept", len(n.addrs))
		}
	} else {
		if n.failures > 0 {
			r.log.Info("host name resolved again", "host", n.host, "failures", n.failures)
		}
		changed = !slices.Equal(n.addrs, addrs)
		n.addrs, n.err, n.failures = addrs, nil, 0
	}
	n.timer = time.AfterFunc(jitter(wait), func() { r.refresh(n) })
	return changed
}
