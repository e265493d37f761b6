package main

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// What flaps may write damperBurst lines about itself at once, and then one
// every damperEvery. No more than damperSubjects are told apart.
const (
	damperBurst    = 20
	damperEvery    = 10 * time.Second
	damperSubjects = 4096
)

// damper is a slog.Handler that keeps what flaps from filling the log. Lines
// about one listener, about the claims of one owner, about publications, and those
// of one phrase that sums up many listeners share a budget each. Beyond it the newest is kept until there is budget again,
// and says then how many before it were held back: so the last word is always
// told. It keeps the time at which it was said. Errors, debug lines, and lines
// about anything else are not damped.
type damper struct {
	slog.Handler // that lines go to
	*budgets
}

func newDamper(to slog.Handler) damper {
	return damper{to, &budgets{of: make(map[subject]*budget)}}
}

func (d damper) Handle(ctx context.Context, r slog.Record) error {
	if about, ok := subjectOf(r); ok && !d.admit(about, r, d.Handler) {
		return nil
	}
	return d.Handler.Handle(ctx, r)
}

func (d damper) WithAttrs(attrs []slog.Attr) slog.Handler {
	return damper{d.Handler.WithAttrs(attrs), d.budgets}
}

func (d damper) WithGroup(name string) slog.Handler {
	return damper{d.Handler.WithGroup(name), d.budgets}
}

// subject is what a line is about: an attribute's key, and its value where that
// is what names it.
type subject struct{ key, value string }

// subjectOf returns the subject whose budget r counts against.
func subjectOf(r slog.Record) (about subject, ok bool) {
	if r.Level < slog.LevelInfo || r.Level >= slog.LevelError {
		return about, false
	}
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case keyListener:
			about = subject{a.Key, a.Value.String()}
			return false // the narrowest there is
		case keyOwner:
			about = subject{a.Key, a.Value.String()}
		case keyGeneration:
			about = subject{key: a.Key}
		case keyListeners:
			if about.key == "" {
				about = subject{a.Key, r.Message}
			}
		}
		return true
	})
	return about, about.key != ""
}

// budgets are those of all subjects.
type budgets struct {
	mu sync.Mutex
	of map[subject]*budget
}

// budget is a bucket of damperBurst lines, one of which comes back every
// damperEvery.
type budget struct {
	full time.Time   // when it is, if nothing more is said
	held int         // lines that wait or were dropped, 0 = the budget is not overdrawn
	last slog.Record // the newest of them
	to   slog.Handler
}

// next is when the budget has a line again.
func (b *budget) next() time.Time { return b.full.Add(-(damperBurst - 1) * damperEvery) }

// spend takes one line off the budget.
func (b *budget) spend(now time.Time) {
	if b.full.Before(now) {
		b.full = now
	}
	b.full = b.full.Add(damperEvery)
}

// admit reports whether there is budget for r. Otherwise it keeps r.
func (bs *budgets) admit(about subject, r slog.Record, to slog.Handler) bool {
	now := time.Now()
	bs.mu.Lock()
	defer bs.mu.Unlock()
	b := bs.budget(about, now)
	if b.held == 0 && !now.Before(b.next()) {
		b.spend(now)
		return true
	}
	b.held++
	b.last, b.to = r.Clone(), to
	if b.held == 1 {
		time.AfterFunc(b.next().Sub(now), func() { bs.release(b) })
	}
	return false
}

// budget returns the budget of a subject. Those that are full are forgotten
// when there are many; what is beyond that shares one.
func (bs *budgets) budget(about subject, now time.Time) *budget {
	b := bs.of[about]
	if b == nil && len(bs.of) >= damperSubjects {
		for s, old := range bs.of {
			if old.held == 0 && !now.Before(old.full) {
				delete(bs.of, s)
			}
		}
		if len(bs.of) >= damperSubjects {
			about = subject{}
			b = bs.of[about]
		}
	}
	if b == nil {
		b = new(budget)
		bs.of[about] = b
	}
	return b
}

// release tells the newest line that b holds.
func (bs *budgets) release(b *budget) {
	bs.mu.Lock()
	r, to, held := b.last, b.to, b.held
	b.last, b.to, b.held = slog.Record{}, nil, 0
	if held > 0 {
		b.spend(time.Now())
	}
	bs.mu.Unlock()
	if held == 0 {
		return // flush was faster
	}
	if held > 1 {
		r.AddAttrs(slog.Int(keyHeldBack, held-1))
	}
	_ = to.Handle(context.Background(), r) // like every line: there is nowhere to tell
}

// flush tells at once what is held, in the order in which it was said.
func (bs *budgets) flush() {
	bs.mu.Lock()
	var holding []*budget
	for _, b := range bs.of {
		if b.held > 0 {
			holding = append(holding, b)
		}
	}
	slices.SortFunc(holding, func(a, b *budget) int { return a.last.Time.Compare(b.last.Time) })
	bs.mu.Unlock()
	for _, b := range holding {
		bs.release(b)
	}
}
