package publish

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"dill/controlplane/source"
)

// guard returns the candidate to publish: free, unless it closes too much at
// once; then one in which the sources concerned give nothing up, and a
// consistent read of them is under way.
//
// Only what holding would save counts as lost: a source without a Confirmer, a
// listener that new settings refuse, or one drained by maintenance is not the
// guard's business.
func (p *Publisher) guard(ctx context.Context, free candidate, now time.Time) candidate {
	lost := p.lost(free)
	hold := make(map[string]bool)
	for _, owner := range lost {
		if f := p.feeds[sourceOf(owner)]; f != nil && f.confirmer != nil {
			hold[f.name] = true
		}
	}
	if len(hold) == 0 {
		p.release(hold)
		return free
	}
	asked, safe := len(hold), p.build(now, hold)
	for addr := range p.lost(safe) {
		delete(lost, addr)
	}
	saved := make(map[string][]netip.AddrPort)
	for addr, owner := range lost {
		saved[sourceOf(owner)] = append(saved[sourceOf(owner)], addr)
	}
	open := make(map[string]int)
	for _, l := range p.table.Listeners {
		open[sourceOf(l.Owner)]++
	}
	all := p.tooMany(len(lost), len(p.table.Listeners))
	for name := range hold {
		f := p.feeds[name]
		// Once held, a source is held until the matter is settled: listeners
		// that open meanwhile must not dilute the share.
		if n := len(saved[name]); n == 0 || len(f.held) == 0 && !all && !p.tooMany(n, open[name]) {
			delete(hold, name)
		}
	}
	p.release(hold)
	switch len(hold) {
	case 0:
		return free
	case asked:
	default:
		safe = p.build(now, hold)
	}
	for name := range hold {
		f := p.feeds[name]
		slices.SortFunc(saved[name], netip.AddrPort.Compare)
		if n := len(saved[name]); len(f.held) != n {
			p.log.Warn("removal held", keySource, name, keyListeners, n, keyOpen, len(p.table.Listeners))
		}
		f.held = saved[name]
		if !f.asking && !now.Before(f.retryAt) {
			p.confirm(ctx, f)
		}
	}
	return safe
}

// lost returns the listeners of the present table that c lacks, with owners.
func (p *Publisher) lost(c candidate) map[netip.AddrPort]string {
	lost := make(map[netip.AddrPort]string)
	kept := c.lingers.listeners // sorted, as are the table's
	for _, l := range p.table.Listeners {
		for len(kept) > 0 && kept[0].Addr.Compare(l.Addr) < 0 {
			kept = kept[1:]
		}
		if len(kept) == 0 || kept[0].Addr != l.Addr {
			lost[l.Addr] = l.Owner
		}
	}
	return lost
}

func (p *Publisher) tooMany(lost, open int) bool {
	return open >= guardFloor && float64(lost) > p.set.RemovalShare*float64(open)
}

// release ends the holding of every feed that is not in hold.
func (p *Publisher) release(hold map[string]bool) {
	for name, f := range p.feeds {
		if len(f.held) > 0 && !hold[name] {
			f.held, f.fails, f.retryAt = nil, 0, time.Time{}
			p.log.Info("removal no longer held", keySource, name)
		}
	}
}

// confirm asks f's source once more, off this goroutine.
func (p *Publisher) confirm(ctx context.Context, f *feed) {
	f.asking = true
	c, epoch := f.confirmer, f.epoch
	p.confirming.Go(func() {
		ask, cancel := context.WithTimeout(ctx, confirmTimeout)
		defer cancel()
		s, err := c.Confirm(ask)
		select {
		case p.answers <- answer{f, epoch, s, err}:
		case <-ctx.Done():
		}
	})
}

// answered takes what Confirm returned. The proof serves the next evaluation,
// and whatever that still holds is asked again after a while: the source's own
// snapshot and its consistent read disagree.
func (p *Publisher) answered(a answer, now time.Time) {
	f := a.feed
	f.asking = false
	p.dirty = true
	if a.epoch != f.epoch {
		return // another server was asked: ask again
	}
	f.retryAt = now.Add(min(confirmRetry<<min(f.fails, 8), confirmMax))
	f.fails++
	err := a.err
	if err == nil && a.snapshot.Err != nil {
		err = a.snapshot.Err
	}
	if err == nil && !a.snapshot.Synced {
		err = errors.New("incomplete answer")
	}
	if err != nil {
		p.log.Warn("removal not confirmed", keySource, f.name, keyErr, err, keyListeners, len(f.held))
		return
	}
	f.proof = &a.snapshot
}

// unproven tells whether the consistent read, which there is, could not read
// this service.
func (f *feed) unproven(service string) bool {
	return slices.ContainsFunc(f.proof.Stale, func(s source.Stale) bool { return s.Service == service })
}

// doubts tells whether f's held listener of this owner must not go: there is
// no proof yet, or it shows an instance that can be served.
func (f *feed) doubts(owner string, allowWarning bool) bool {
	if f.proof == nil {
		return true
	}
	_, name, _ := strings.Cut(owner, "/")
	i, ok := position(f.proof.Services, name)
	return f.unproven(name) || ok && slices.ContainsFunc(f.proof.Services[i].Instances, func(i source.Instance) bool {
		return i.Served(allowWarning)
	})
}
