package dataplane_test

import (
	"fmt"
	"testing"
	"time"

	"dill/dataplane"
	. "dill/dataplane/dptest"
)

// eachSide runs f twice: the client and then the server is the one that acts.
func eachSide(t *testing.T, r *rig, f func(t *testing.T, actor, other *Peer)) {
	t.Run("by client", func(t *testing.T) {
		client, server := r.open(t)
		f(t, client, server)
	})
	t.Run("by server", func(t *testing.T) {
		client, server := r.open(t)
		f(t, server, client)
	})
}

// TestRSTPassesAfterData: what was received before a reset is delivered to the
// last byte, and then comes a reset and never a clean end.
func TestRSTPassesAfterData(t *testing.T) {
	eachMode(t, setup{}, func(t *testing.T, r *rig) {
		for _, n := range []int64{0, 1, 1000, 100_000, 5 << 20} {
			t.Run(fmt.Sprint(n, " bytes"), func(t *testing.T) {
				eachSide(t, r, func(t *testing.T, actor, other *Peer) {
					Play(t,
						Role{Name: "actor", Peer: actor, Ops: []Op{Write(n), Acked(), Reset()}},
						Role{Name: "other", Peer: other, Ops: []Op{ReadToReset(n)}})
				})
			})
		}
	})
}

// TestRSTWaitsForSlowReader: a reset waits for data that is queued behind a
// reader which has stopped, and comes once it went on.
func TestRSTWaitsForSlowReader(t *testing.T) {
	small := Socket{RcvBuf: 8 << 10}
	const n = 100_000
	for _, side := range []string{"client", "server"} {
		t.Run("by "+side, func(t *testing.T) {
			eachMode(t, setup{sockets: small}, func(t *testing.T, r *rig) {
				reader, actor := r.openFrom(t, small)
				if side == "client" {
					reader, actor = actor, reader
				}
				actor.Must(t, Write(n), Acked(), Reset())
				// The reader holds back while dill has the reset and most of the data.
				Steady(t, 100*time.Millisecond, "the session waits", func() bool { return dataplane.Stats().Sessions == 1 })
				reader.Must(t, ReadChunks(n-10, 3000), ReadToReset(n))
			})
		})
	}
}

// TestRSTUndeliverable: a reader that never goes on does not hold a reset up
// for longer than the half-close timeout; then it comes anyway, and is counted.
func TestRSTUndeliverable(t *testing.T) {
	const limit = 300 * time.Millisecond
	small := Socket{RcvBuf: 4 << 10}
	cfg := dataplane.Config{HalfCloseTimeout: limit}
	eachMode(t, setup{cfg: cfg, sockets: small}, func(t *testing.T, r *rig) {
		counted := since("reset_undelivered")
		client, server := r.openFrom(t, small)
		server.Must(t, Write(100_000), Acked())
		begun := time.Now()
		server.Must(t, Reset())
		Eventually(t, "the session is gone", func() bool { return dataplane.Stats().Sessions == 0 })
		took(t, "the reset", time.Since(begun), limit, limit+2*time.Second)
		client.Must(t, ReadToReset(-1))
		counts(t, "reset_undelivered", counted, 1)
	})
}

// TestRSTStopsSender: a side that resets while it is being sent to stops the
// sender with a reset.
func TestRSTStopsSender(t *testing.T) {
	eachMode(t, setup{}, func(t *testing.T, r *rig) {
		eachSide(t, r, func(t *testing.T, actor, other *Peer) {
			Play(t,
				Role{Name: "actor", Peer: actor, Ops: []Op{Read(3 << 20), Reset()}},
				Role{Name: "sender", Peer: other, Ops: []Op{WriteToReset()}})
		})
	})
}

// TestRSTStopsStalledSender: the same while the sender is held up because the
// resetting side did not read.
func TestRSTStopsStalledSender(t *testing.T) {
	eachMode(t, setup{}, func(t *testing.T, r *rig) {
		eachSide(t, r, func(t *testing.T, actor, other *Peer) {
			other.Must(t, WriteUntilStalled(64<<20, 100*time.Millisecond))
			actor.Must(t, Reset())
			other.Must(t, ReadToReset(0))
		})
	})
}

// TestRSTOfIdleSession: a reset passes on a session on which nothing happens.
func TestRSTOfIdleSession(t *testing.T) {
	eachMode(t, setup{}, func(t *testing.T, r *rig) {
		eachSide(t, r, func(t *testing.T, actor, other *Peer) {
			actor.Must(t, Write(10))
			other.Must(t, Read(10), Write(10))
			actor.Must(t, Read(10), Reset())
			begun := time.Now()
			other.Must(t, ReadToReset(10))
			took(t, "the reset", time.Since(begun), 0, 2*time.Second)
		})
	})
}

// TestRSTAfterFIN: a side that ended cleanly and resets later resets the other,
// which had seen the clean end already.
func TestRSTAfterFIN(t *testing.T) {
	eachMode(t, setup{}, func(t *testing.T, r *rig) {
		for _, n := range []int64{0, 100_000} {
			t.Run(fmt.Sprint(n, " bytes"), func(t *testing.T) {
				eachSide(t, r, func(t *testing.T, actor, other *Peer) {
					Play(t,
						Role{Name: "actor", Peer: actor, Ops: []Op{Write(n), HalfClose(), Read(5), Reset()}},
						Role{Name: "other", Peer: other, Ops: []Op{ReadToEOF(n), Write(5), WriteToReset()}})
				})
			})
		}
	})
}

// TestRSTRightAfterFIN: the same when both arrive while the loop is busy, so
// that it learns of them from one event: a read then tells of the FIN only.
func TestRSTRightAfterFIN(t *testing.T) {
	eachMode(t, setup{cfg: dataplane.Config{Loops: 1}}, func(t *testing.T, r *rig) {
		eachSide(t, r, func(t *testing.T, actor, other *Peer) {
			busy, _ := r.open(t)
			r.stall(t, 50*time.Millisecond)
			busy.Must(t, Write(1))
			actor.Must(t, HalfClose(), Reset())
			Within(t, 2*time.Second, "the session is gone", func() bool { return dataplane.Stats().Sessions == 1 })
			other.Must(t, WriteToReset())
			busy.Must(t, Reset())
			Eventually(t, "the other one, too", func() bool { return dataplane.Stats().Sessions == 0 })
		})
	})
}

// TestRSTAfterFINOfOtherSide: one side has ended, the other is still sending
// and resets: the truncated stream does not end cleanly.
func TestRSTAfterFINOfOtherSide(t *testing.T) {
	eachMode(t, setup{}, func(t *testing.T, r *rig) {
		const n = 50_000
		eachSide(t, r, func(t *testing.T, actor, other *Peer) {
			Play(t,
				Role{Name: "actor", Peer: actor, Ops: []Op{ReadToEOF(0), Write(n), Acked(), Reset()}},
				Role{Name: "other", Peer: other, Ops: []Op{HalfClose(), ReadToReset(n)}})
		})
	})
}

// TestCloseWithUnreadInputIsReset: closing a socket that has unread input is a
// reset on the wire, and the other side is told so.
func TestCloseWithUnreadInputIsReset(t *testing.T) {
	eachMode(t, setup{}, func(t *testing.T, r *rig) {
		eachSide(t, r, func(t *testing.T, actor, other *Peer) {
			other.Must(t, Write(1000), Acked())
			actor.Must(t, Read(10), Close()) // the rest has arrived with it
			other.Must(t, ReadToReset(0))
		})
	})
}

// TestRSTWaitsForReaderThatWritesFirst: a server answers early and resets, and
// the client reads only when it has sent all. What it still sends is taken and
// thrown away, or neither the answer nor the reset would ever be delivered.
func TestRSTWaitsForReaderThatWritesFirst(t *testing.T) {
	const request, answer = 24 << 20, 300_000
	small := Socket{RcvBuf: 8 << 10}
	eachMode(t, setup{sockets: small}, func(t *testing.T, r *rig) {
		for _, side := range []string{"client", "server"} {
			t.Run(side+" writes first", func(t *testing.T) {
				writer, actor := r.openFrom(t, small)
				if side == "server" {
					writer, actor = actor, writer
				}
				Play(t,
					Role{Name: "writer", Peer: writer, Ops: []Op{Write(request), ReadToReset(answer)}},
					Role{Name: "actor", Peer: actor, Ops: []Op{Read(1000), Write(answer), Acked(), Reset()}})
			})
		}
	})
}

// TestRSTRightAfterConnect: a backend that answers and resets before dill has
// noticed that it is connected has not refused: its answer is delivered.
func TestRSTRightAfterConnect(t *testing.T) {
	const n = 1000
	answer := func(p *Peer) { _ = p.Run(Write(n), Acked(), Reset()) }
	r := start(t, setup{serve: func(int) func(*Peer) { return answer }})
	failed := since("connect_failed")
	for range 200 {
		client, err := Connect(r.front, Socket{})
		if IsReset(err) {
			continue // package net has met the reset itself and given up
		} else if err != nil {
			t.Fatal(err)
		}
		client.Must(t, ReadToReset(n), Close())
	}
	if failed() != 0 {
		t.Errorf("%d connects count as failed", failed())
	}
}

// TestRSTCounters: who reset is counted by side.
func TestRSTCounters(t *testing.T) {
	r := start(t, setup{})
	byClient, byBackend := since("reset_by_client"), since("reset_by_backend")
	eachSide(t, r, func(t *testing.T, actor, other *Peer) {
		actor.Must(t, Reset())
		other.Must(t, ReadToReset(0))
	})
	counts(t, "reset_by_client", byClient, 1)
	counts(t, "reset_by_backend", byBackend, 1)
}
