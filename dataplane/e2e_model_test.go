package dataplane_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"dill/dataplane"
	. "dill/dataplane/dptest"
)

// FuzzSession plays a random sequence of writes, reads, ends, closes and resets
// on both sides of one session, and holds what each side sees against a plain
// model of two byte streams:
//
//   - a side reads what the other wrote, byte for byte, from the start;
//   - a clean end comes only if the other side ended cleanly, and after every
//     byte it wrote;
//   - a reset comes only if the other side reset or closed, and after every
//     byte that had arrived at dill before it;
//   - what is due comes without anything else having to happen;
//   - when both sides are done the session is gone.
//
// A session that stalls is one whose sides do not happen to read. Now and then the
// loops stand still for a moment, so that what follows meets them all at once.
func FuzzSession(f *testing.F) {
	var rigs []*rig
	var names []string
	// With small windows a few writes already leave something undelivered.
	for _, window := range []int{0, 4 << 10} {
		for _, name := range []string{"copy", "splice", "auto"} { // scripts name them by number
			mode := modes[name]
			rigs = append(rigs, start(f, setup{cfg: dataplane.Config{Splice: mode, Loops: 2}, sockets: Socket{RcvBuf: window}}))
			names = append(names, fmt.Sprintf("%s mode, window %d", name, window))
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 150 {
		seed := make([]byte, 1+2*random.IntN(20))
		for i := range seed {
			seed[i] = byte(random.Uint32())
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) == 0 || len(script) > 100 {
			return
		}
		which := int(script[0]) % len(rigs)
		r := rigs[which]
		before := dataplane.Stats().Sessions
		client, server := r.openFrom(t, r.setup.sockets)
		m := &model{stall: func() { r.engine.Stall(3 * time.Millisecond) }}
		m.side[0] = &modelSide{name: "client", peer: client}
		m.side[1] = &modelSide{name: "server", peer: server}
		m.side[0].other, m.side[1].other = m.side[1], m.side[0]
		err := m.run(script[1:])
		if err == nil && !Poll(5*time.Second, func() bool { return dataplane.Stats().Sessions <= before }) {
			err = errors.New("the session is still there")
		}
		if err != nil {
			t.Fatalf("%s: %s: %v", names[which], strings.Join(m.did, ", "), err)
		}
	})
}

// model is what has happened to the two sides so far.
type model struct {
	side  [2]*modelSide
	stall func()
	did   []string
}

type modelSide struct {
	name  string
	peer  *Peer
	other *modelSide

	ended  bool // FIN sent, by a half-close or a close
	closed bool // by close(2)
	reset  bool
	acked  int64 // what had arrived at dill when it was reset
	over   bool  // it read the end of the other's stream, clean or not
	broken bool  // it saw a reset
}

// gone reports whether the side can do nothing any more.
func (s *modelSide) gone() bool { return s.closed || s.reset }

// run plays the script, two bytes a step, and then lets both sides finish.
func (m *model) run(script []byte) error {
	sizes := []int{1, 100, 4096, 65536, 65537, 300_000}
	for len(script) >= 2 {
		s := m.side[script[0]>>7]
		n := sizes[int(script[1])%len(sizes)]
		if err := m.step(s, script[0]&0x7f, n); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		script = script[2:]
	}
	return m.finish()
}

func (m *model) step(s *modelSide, what byte, n int) error {
	if s.gone() {
		return nil
	}
	switch what % 16 {
	case 0, 1, 2, 3, 4, 5:
		m.note("%s writes %d", s.name, n)
		return s.write(n)
	case 6:
		// What happens next reaches the loop as one batch of events.
		m.note("loops stall")
		m.stall()
	case 7, 8, 9, 10, 11:
		m.note("%s reads %d", s.name, n)
		return s.read(n)
	case 12, 13:
		m.note("%s half-closes", s.name)
		if s.ended || s.broken {
			return nil
		}
		s.ended = true
		if err := s.peer.Run(HalfClose()); err != nil && !s.other.gone() {
			return err
		}
	case 14:
		m.note("%s closes", s.name)
		s.closed, s.ended = true, true
		return s.peer.Close()
	case 15:
		m.note("%s resets", s.name)
		// Bytes that are still here are thrown away by the reset itself.
		unacked, err := s.peer.Unacked()
		if err != nil {
			return err
		}
		s.acked = s.peer.Sent() - int64(unacked)
		s.reset = true
		return s.peer.Reset()
	}
	return nil
}

func (m *model) note(format string, args ...any) {
	m.did = append(m.did, fmt.Sprintf(format, args...))
}

// write sends n bytes, or as many as go while nobody reads.
func (s *modelSide) write(n int) error {
	if s.ended || s.broken {
		return nil
	}
	_ = s.peer.Conn().SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
	err := s.peer.Run(Write(int64(n)))
	s.peer.Extend(Patience)
	switch {
	case err == nil, IsTimeout(err):
		return nil
	case IsReset(err):
		s.broken = true
		return s.mayBreak()
	}
	return err
}

// due reports whether the other side has done something that s must get to see.
func (s *modelSide) due() bool {
	return !s.over && (s.peer.Got() < s.other.peer.Sent() || s.other.ended || s.other.reset)
}

// read makes one read if something is due, which then must come.
func (s *modelSide) read(n int) error {
	if !s.due() {
		return nil
	}
	return s.readOnce(n)
}

func (s *modelSide) readOnce(n int) error {
	_, err := s.peer.ReadSome(n)
	switch {
	case errors.Is(err, io.EOF):
		s.over = true
		return s.mayEnd()
	case IsReset(err):
		s.over, s.broken = true, true
		return s.mayBreak()
	}
	return err
}

// mayEnd checks that a clean end is right here.
func (s *modelSide) mayEnd() error {
	switch got, sent := s.peer.Got(), s.other.peer.Sent(); {
	case s.broken:
		return nil // a write has taken the reset; what reads say then is the kernel's
	case !s.other.ended:
		return fmt.Errorf("clean end after %d bytes, but the other side sent none", got)
	case got != sent:
		return fmt.Errorf("clean end after %d of %d bytes", got, sent)
	}
	return nil
}

// mayBreak checks that a reset is right here.
func (s *modelSide) mayBreak() error {
	got := s.peer.Got()
	switch {
	case !s.other.gone():
		return fmt.Errorf("reset after %d bytes, but the other side neither reset nor closed", got)
	case s.over && s.other.reset && !s.other.ended && !s.other.closed && got < s.other.acked:
		return fmt.Errorf("reset after %d of %d bytes that had arrived", got, s.other.acked)
	}
	return nil
}

// finish has both sides end and read what is left.
func (m *model) finish() error {
	for _, s := range m.side {
		if s.gone() || s.ended || s.broken {
			continue
		}
		s.ended = true
		if err := s.peer.Run(HalfClose()); err != nil && !s.other.gone() {
			return fmt.Errorf("%s half-closes at last: %w", s.name, err)
		}
	}
	for _, s := range m.side {
		for !s.gone() && !s.over {
			if err := s.readOnce(64 << 10); err != nil {
				return fmt.Errorf("%s at last, after %d bytes: %w", s.name, s.peer.Got(), err)
			}
		}
	}
	for _, s := range m.side {
		if !s.gone() {
			_ = s.peer.Close()
		}
	}
	return nil
}
