package publish

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"dill/controlplane/compile"
	"dill/dataplane/route"
)

// candidate is a table that could be published, and the state that goes with
// it. Building one changes nothing.
type candidate struct {
	plans    map[string]plan
	compiled compile.Result
	lingers  lingers
	due      time.Time

	unanswered sinces
}

// evaluate works out what ought to be served now and publishes it if it
// differs from what is.
func (p *Publisher) evaluate(ctx context.Context, now time.Time) {
	p.dirty = false
	p.look()
	c := p.guard(ctx, p.build(now, nil), now)
	p.commit(c, now)

	before := p.table
	next := route.NewTable(p.table.Generation+1, c.lingers.listeners, c.compiled.Refused, p.table)
	if d := compare(p.table, next); !d.empty() {
		p.rememberFormer(next)
		p.table = next
		p.published = now
		p.cfg.Plane.Publish(next)
		d.log(p.log, next)
		if d.fresh > 0 {
			// The plane has tried them by then, and none a second time: what turns
			// out to be somebody else's is given up before it could come free.
			p.due = earliest(p.due, now.Add(spacing))
		}
	}
	p.forgetFormer(before, now)
	p.status.Store(p.newStatus(now))
	p.save(now, false)
	p.due = earliest(p.due, p.saveDue())
	for _, f := range p.feeds {
		f.proof = nil
	}
}

// build compiles what all feeds contribute; those in hold give nothing up.
func (p *Publisher) build(now time.Time, hold map[string]bool) candidate {
	c := candidate{plans: make(map[string]plan, len(p.feeds))}
	in := compile.Input{Hosts: p.cfg.Names.Lookup, Incumbents: p.owners}
	p.bound.input(&in)
	for _, name := range slices.Sorted(maps.Keys(p.feeds)) {
		f := p.feeds[name]
		pl := f.plan(now, p.set.Settle, hold[name])
		c.plans[name] = pl
		c.due = earliest(c.due, pl.due)
		s := f.in
		s.Source, s.Services = name, pl.services
		in.Snapshots = append(in.Snapshots, s)
	}
	c.compiled = p.memo.Compile(p.set.Compile, in)
	pass := lingerPass{
		last:  p.lastServed,
		until: p.lingering,
		now:   now,
		wait:  p.set.Linger,
		names: newNameWait(p.unanswered, p.set.Linger, now),
		hold: func(owner string) (time.Time, bool) {
			// A source that is silent, or was a moment ago, does not prove
			// that its services are still as critical as it said.
			from, name, _ := strings.Cut(owner, "/")
			f := p.feeds[from]
			return f.settleUntil, !f.proves(name) || hold[f.name] && f.doubts(owner, p.set.Compile.AllowWarning)
		},
		presume: func(owners []string) compile.Result {
			in.Snapshots = presume(in.Snapshots, owners)
			return p.memo.Compile(p.set.Compile, in)
		},
	}
	c.lingers = pass.run(c.compiled)
	c.unanswered = pass.names.still
	c.due = earliest(c.due, c.lingers.due)
	return c
}

// commit makes the candidate's state the present one.
func (p *Publisher) commit(c candidate, now time.Time) {
	for name, pl := range c.plans {
		f := p.feeds[name]
		if f.restated || !sameServices(f.services, pl.services) {
			p.unsaved, f.restated = true, false
		}
		if f.settling == 0 && pl.settling > 0 {
			p.log.Info("removals wait", keySource, name, keyInstances, pl.settling, keyFor, p.set.Settle)
		}
		if n := len(pl.expired); n > len(f.expired) {
			p.log.Warn("what is known is too old to be served", keySource, name, keyServices, n, keyFor, f.maxStale)
		}
		f.services, f.missing, f.settling, f.expired = pl.services, pl.missing, pl.settling, pl.expired
		f.forgetForeign()
	}
	p.own(c.compiled.Listeners)
	p.noteLingering(c, now)
	if !sameListeners(p.lingering, c.lingers.until) {
		p.unsaved = true
	}
	p.lingering, p.waiting, p.unanswered = c.lingers.until, c.lingers.waits, c.unanswered
	p.idle = c.compiled.Idle
	p.bound.givenUp = c.compiled.InUse
	p.cfg.Names.Sweep()

	p.due = c.due
	for _, f := range p.feeds {
		if len(f.held) > 0 && !f.asking {
			p.due = earliest(p.due, f.retryAt)
		}
	}
}

// own makes the owners of these listeners the incumbents of the next compilation.
func (p *Publisher) own(listeners []*route.Listener) {
	// Which service of a source is read first is chance, and that one's port is
	// not for keeps before all of them have been read.
	keeps := func(l *route.Listener, owner string) bool {
		return owner == l.Owner || !p.feeds[sourceOf(l.Owner)].current.IsZero()
	}
	kept, changed := 0, false
	for _, l := range listeners {
		owner := p.owners[l.Addr]
		if keeps(l, owner) {
			kept++
			changed = changed || owner != l.Owner
		}
	}
	if !changed && kept == len(p.owners) {
		return // as mostly: the map may be large
	}
	owners := make(map[netip.AddrPort]string, kept)
	for _, l := range listeners {
		if keeps(l, p.owners[l.Addr]) {
			owners[l.Addr] = l.Owner
		}
	}
	p.owners, p.unsaved = owners, true
}
