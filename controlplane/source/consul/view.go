package consul

import (
	"cmp"
	"log/slog"
	"slices"
	"time"

	"dill/controlplane/source"
)

const (
	// doubt is for how long absence proves nothing after something odd
	// happened. Package publish adds its own, longer wait to each removal that
	// it first sees in that time.
	doubt = 5 * time.Second

	// emitGap is the least time between two snapshots; a lone change goes out
	// at once.
	emitGap = 20 * time.Millisecond

	// complainGap is the least time between two lines of the log that say the
	// same, and newsGap between two that do not.
	complainGap = time.Minute
	newsGap     = 5 * time.Second
)

// view is what is known about Consul's services. It outlives the connections,
// so that what was good stays when they break. It belongs to the goroutine of
// Source.Run.
type view struct {
	src  *Source
	sink source.Sink

	services map[string]*tracked
	index    uint64 // of the newest catalog

	synced     bool      // everything has been read once
	err        error     // why it is not current
	warning    error     // what is wrong besides
	hintErr    error     // why services without a watch are not, of the present session
	contact    time.Time // last good answer
	doubtUntil time.Time

	dirty bool // some service changed since the last snapshot
	sent  sent

	began  time.Time // of the outage, while err is set
	outage complaint
	stale  complaint // of single services
	tokens complaint // of the token file
	hidden bool      // said that ACLs hide something
}

// sent is what the last snapshot said besides the services.
type sent struct {
	at              time.Time
	synced, suspect bool
	err, warning    string
}

// tracked is one service that asks for a listener.
type tracked struct {
	name string
	tags []string       // union over its instances, as the catalog has it
	last source.Service // last good; without instances until one was read
	good time.Time      // of the last good answer, zero = none

	sessionState // of the present session only
}

func newView(s *Source, sink source.Sink) *view {
	v := &view{src: s, sink: sink, services: make(map[string]*tracked)}
	for _, inherited := range *s.known.Load() {
		v.services[inherited.Name] = &tracked{name: inherited.Name, last: inherited}
	}
	v.outage = complaint{log: s.log, phrase: "consul is not current"}
	v.stale = complaint{log: s.log, phrase: "service is stale"}
	v.tokens = complaint{log: s.log, phrase: "token file cannot be read, going on with the last token"}
	return v
}

// fail records why the source is not current.
func (v *view) fail(err error, now time.Time) {
	err = plain(err)
	if v.err == nil {
		v.began = now
		v.outage.again()
	}
	v.err = err
	v.outage.say(now, err)
}

// failing is fail for something that has not just happened, but may be new.
func (v *view) failing(err error, now time.Time) {
	if v.err == nil || v.err.Error() != plain(err).Error() {
		v.fail(err, now)
	}
}

// recover records that it is current, which it may have been before.
func (v *view) recover(now time.Time) {
	v.synced = true
	if v.err == nil {
		return
	}
	v.err = nil
	v.distrust(now)
	v.src.log.Info("consul is current again", keyOutage, now.Sub(v.began).Round(time.Millisecond), keyServices, len(v.services))
}

// checkToken records whether the token is still the one in its file. Without any
// token at all it is the queries that fail.
func (v *view) checkToken(now time.Time) {
	text, err := v.src.token.get()
	switch {
	case text != "" && err != nil:
		v.warning = err
		v.tokens.say(now, err)
	case v.warning != nil:
		v.warning = nil
		v.tokens.again()
		v.src.log.Info("token file can be read again")
	}
}

// distrust marks that absence proves nothing for a while.
func (v *view) distrust(now time.Time) { v.doubtUntil = now.Add(doubt) }

// emit hands a snapshot to the sink if it differs from the last one. When it is
// too early for that, it returns when it is not.
func (v *view) emit(now time.Time) (due time.Time) {
	next := sent{at: now, synced: v.synced, suspect: now.Before(v.doubtUntil)}
	if v.err != nil {
		next.err = v.err.Error()
	}
	if v.warning != nil {
		next.warning = v.warning.Error()
	}
	last := v.sent
	last.at = now
	if next == last && !v.dirty {
		return time.Time{}
	}
	if due := v.sent.at.Add(emitGap); now.Before(due) {
		return due
	}
	v.sent, v.dirty = next, false
	s := source.Snapshot{Source: Name, Services: v.list(), Synced: v.synced, Suspect: next.suspect, Err: v.err, Warning: v.warning}
	if v.err != nil {
		s.StaleSince = v.contact
	} else {
		s.Stale = v.stales()
	}
	v.src.counters.snapshots.Add(1)
	v.src.known.Store(&s.Services)
	v.sink(s)
	return time.Time{}
}

// list returns the services that have instances, by name.
func (v *view) list() []source.Service {
	all := make([]source.Service, 0, len(v.services))
	for _, t := range v.services {
		if len(t.last.Instances) > 0 {
			all = append(all, t.last)
		}
	}
	slices.SortFunc(all, func(a, b source.Service) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// stales returns the services that cannot be read, by name.
func (v *view) stales() (all []source.Stale) {
	for _, t := range v.services {
		err := t.err
		if err == nil && t.stop == nil {
			err = v.hintErr
		}
		if err != nil {
			all = append(all, source.Stale{Service: t.name, Err: plain(err), Since: t.good})
		}
	}
	slices.SortFunc(all, func(a, b source.Stale) int { return cmp.Compare(a.Service, b.Service) })
	return all
}

// complaint is a line of the log that is not repeated all the time.
type complaint struct {
	log     *slog.Logger
	phrase  string
	said    time.Time
	text    string // of the error said then
	dropped int
}

// say writes the line, unless that was done not long ago, and reports whether
// it did.
func (c *complaint) say(now time.Time, err error, args ...any) bool {
	gap, text := complainGap, err.Error()
	if text != c.text {
		gap = newsGap
	}
	if !c.said.IsZero() && now.Sub(c.said) < gap {
		c.dropped++
		return false
	}
	args = append(args, keyErr, err)
	if c.dropped > 0 {
		args = append(args, keyDropped, c.dropped)
	}
	c.log.Warn(c.phrase, args...)
	c.said, c.text, c.dropped = now, text, 0
	return true
}

// news makes the next line one that was not said before, whatever it says.
func (c *complaint) news() { c.text = "" }

// again lets the next line through: it is about something new.
func (c *complaint) again() { c.said = time.Time{} }
