package dataplane_test

import (
	"context"
	"errors"
	"testing"

	"dill/dataplane"
	. "dill/dataplane/dptest"
)

// TestShutdownTellsOfEveryReset: however the loops and Shutdown meet, it returns
// that it reset sessions, and shutdown_reset is how many by then; and nothing
// of the kind when all had finished.
func TestShutdownTellsOfEveryReset(t *testing.T) {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	for range 20 {
		r := start(t, setup{cfg: dataplane.Config{Loops: 2}})
		reset := since("shutdown_reset")
		const sessions = 3
		for range sessions {
			r.open(t)
		}
		if err := r.engine.Shutdown(over); !errors.Is(err, context.Canceled) || reset() != sessions {
			t.Errorf("shutdown: %v with %d sessions reset, want %v and %d", err, reset(), context.Canceled, sessions)
		}
	}
	r := start(t, setup{})
	client, server := r.open(t)
	Play(t,
		Role{Name: "client", Peer: client, Ops: []Op{HalfClose(), ReadToEOF(0), Close()}},
		Role{Name: "server", Peer: server, Ops: []Op{ReadToEOF(0), Close()}})
	Eventually(t, "the session has finished", func() bool { return dataplane.Stats().Sessions == 0 })
	if err := r.engine.Shutdown(over); err != nil {
		t.Errorf("shutdown without sessions: %v", err)
	}
}
