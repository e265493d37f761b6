package consul

import (
	"errors"
	"slices"
	"time"
)

const (
	// shrinkGap is how long it may take until connections that were given up
	// make room.
	shrinkGap = time.Second

	// hangUps is within which time two of them have one cause.
	hangUps = 10 * time.Second
)

// crowdedBy gives up half of the watches if err says that there are too many
// connections: others at this address have some, too, and a service beyond the
// budget is served a little later, but one without a connection never. It lasts
// until the session ends.
func (s *session) crowdedBy(err error) {
	now := time.Now()
	if why := s.shortage(err, now); why != "" && now.Sub(s.shrunk) >= shrinkGap && s.direct > 0 {
		s.shrink(now)
		s.src.log.Warn(why, keyErr, plain(err), keyWatches, s.direct)
	}
}

// shortage returns what err says about the number of connections, "" for
// nothing. A hang-up says something only if there is one more a moment later: an
// agent that was killed ends the session before that.
func (s *session) shortage(err error, now time.Time) string {
	switch {
	case crowded(err):
		return "consul allows fewer connections than configured"
	case !errors.Is(err, errHungUp):
	case now.Sub(s.hungUp) > hangUps:
		s.hungUp = now
	case now.Sub(s.hungUp) >= firstBackoff/2:
		return "consul hangs up on new connections, fewer are held"
	}
	return ""
}

// shrink takes their watches from half of the services that have one.
func (s *session) shrink(now time.Time) {
	s.shrunk = now
	s.budget = s.direct / 2
	names := make([]string, 0, s.direct)
	for name, t := range s.view.services {
		if t.stop != nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names[s.budget:] {
		t := s.view.services[name]
		t.stop()
		t.stop = nil
		s.direct--
		s.beyond++
		if !t.settled || t.err != nil {
			s.want(t)
		}
	}
	s.moved = now // what changed since their last answers, a sweep finds
	s.balance()
}
