package publish

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"dill/controlplane/compile"
	"dill/controlplane/source"
	"dill/dataplane/route"
)

// Publisher turns snapshots into published tables.
type Publisher struct {
	// Constant after New.
	cfg     Config
	log     *slog.Logger
	began   time.Time
	wake    chan struct{} // holds a token while the mailbox has something
	answers chan answer   // what Confirm calls came back with

	// Written by Run, read by everybody.
	status atomic.Pointer[Status]

	mu   sync.Mutex // guards mail only
	mail mailbox

	// Owned by Run.
	set        Settings
	feeds      map[string]*feed
	lingering  untils
	waiting    map[netip.AddrPort]Wait
	unanswered sinces
	idle       []compile.Idle // of the newest evaluation
	former     former
	owners     map[netip.AddrPort]string
	bound      bound
	table      *route.Table
	memo       compile.Memo
	dirty      bool      // something changed since the last evaluation
	due        time.Time // next moment at which time itself changes something
	published  time.Time // last publication
	rested     time.Time // no evaluation before that
	unsaved    bool
	saved      time.Time // when the state was handed over last
	confirming sync.WaitGroup
}

// mailbox holds what came in since Run last looked.
type mailbox struct {
	snapshots map[string]letter
	settings  *Settings
	names     bool // a host name has another address
	moved     bool // this host has other addresses
}

// letter is the newest snapshot of one source, and what it overtook.
type letter struct {
	source.Snapshot
	hadErr, hadSuspect bool
}

// answer is what a Confirm returned.
type answer struct {
	feed     *feed
	epoch    int // of the feed when it was asked
	snapshot source.Snapshot
	err      error
}

// New returns a Publisher that publishes nothing before Run.
func New(cfg Config, log *slog.Logger) *Publisher {
	p := &Publisher{
		cfg:     cfg,
		log:     log,
		began:   time.Now(),
		wake:    make(chan struct{}, 1),
		answers: make(chan answer),
		mail:    mailbox{snapshots: make(map[string]letter)},
		feeds:   make(map[string]*feed),
		owners:  cfg.Restored.Owners,
		bound:   newBound(cfg.Restored.Owners),
		former:  newFormer(cfg.Restored),
		table:   route.NewTable(0, nil, nil, nil),
	}
	now := p.began
	p.configure(cfg.Settings, now)
	for _, s := range cfg.Restored.Sources {
		if f := p.feeds[s.Name]; f != nil {
			f.restore(s, now)
			p.dirty = true
			log.Info("routes restored", keySource, f.name, keyServices, len(s.Services), keySince, s.Since)
		}
	}
	p.status.Store(p.newStatus(now))
	return p
}

// Sink takes a source's newest snapshot; it is a source.Sink. Only the newest
// of each source counts, but no error or suspicion in between is forgotten.
func (p *Publisher) Sink(s source.Snapshot) {
	p.post(func(m *mailbox) {
		old := m.snapshots[s.Source]
		m.snapshots[s.Source] = letter{
			Snapshot:   s,
			hadErr:     old.hadErr || old.Err != nil,
			hadSuspect: old.hadSuspect || old.Suspect,
		}
	})
}

// Configure takes new settings, complete ones.
func (p *Publisher) Configure(s Settings) { p.post(func(m *mailbox) { m.settings = &s }) }

// NamesChanged says that Names now answers differently for some host.
func (p *Publisher) NamesChanged() { p.post(func(m *mailbox) { m.names = true }) }

// AddressesChanged says that Settings.Compile.Local now answers differently for
// some address.
func (p *Publisher) AddressesChanged() { p.post(func(m *mailbox) { m.moved = true }) }

// Status returns what is published and how it stands. It is immutable, never
// nil, and costs one atomic load.
func (p *Publisher) Status() *Status { return p.status.Load() }

func (p *Publisher) post(put func(*mailbox)) {
	p.mu.Lock()
	put(&p.mail)
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Run publishes until ctx ends. The last table stays published.
func (p *Publisher) Run(ctx context.Context) {
	defer p.confirming.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			p.save(time.Now(), true)
			return
		case <-p.wake:
			p.collect(time.Now())
		case a := <-p.answers:
			p.answered(a, time.Now())
		case <-look.C:
			p.dirty = p.lookAgain() || p.dirty
		case <-timer.C:
		}
		now := time.Now()
		if !p.due.IsZero() && !now.Before(p.due) {
			p.dirty = true
		}
		next := p.due
		if p.dirty {
			slot := p.published.Add(spacing)
			if p.rested.After(slot) {
				slot = p.rested
			}
			if now.Before(slot) {
				next = slot
			} else {
				p.evaluate(ctx, now)
				next = p.due
				// News that turns out to be none must not eat a whole CPU
				// however often it comes.
				end := time.Now()
				p.rested = end.Add(end.Sub(now))
			}
		}
		if next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(next))
		}
	}
}

// collect empties the mailbox.
func (p *Publisher) collect(now time.Time) {
	p.mu.Lock()
	mail := p.mail
	p.mail = mailbox{snapshots: make(map[string]letter)}
	p.mu.Unlock()

	if mail.settings != nil {
		p.configure(*mail.settings, now)
		p.dirty = true
	}
	if mail.moved {
		p.memo.Moved()
	}
	if mail.names || mail.moved {
		p.dirty = true
	}
	for name, l := range mail.snapshots {
		f := p.feeds[name]
		if f == nil {
			p.log.Debug("snapshot ignored", keySource, name)
			continue
		}
		// The sources themselves say why they are stale, and how often.
		p.log.Debug("snapshot taken", keySource, name, keyServices, len(l.Services),
			keySynced, l.Synced, keySuspect, l.Suspect, keyErr, l.Err)
		p.noteInherited(name, f.take(l.Snapshot, l.hadErr, l.hadSuspect, now, p.set.Settle))
		p.dirty = true
	}
}

// configure takes settings over: sources come and go with them.
func (p *Publisher) configure(s Settings, now time.Time) {
	p.set = s
	for name := range p.feeds {
		if _, ok := s.Sources[name]; !ok {
			delete(p.feeds, name)
			p.unsaved = true
		}
	}
	for name, o := range s.Sources {
		f := p.feeds[name]
		if f == nil {
			f = &feed{name: name, confirmer: o.Confirmer, scope: o.Scope}
			p.feeds[name] = f
		}
		f.maxStale = o.MaxStale
		if f.confirmer != o.Confirmer || f.scope != o.Scope {
			f.replace(o.Confirmer, o.Scope, now)
		}
	}
}
