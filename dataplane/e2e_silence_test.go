package dataplane_test

import (
	"fmt"
	"testing"
	"time"

	"dill/dataplane"
	. "dill/dataplane/dptest"
)

// Timeouts of silence look at what the peers take, not at what dill writes:
// megabytes wait in a socket's queue after the last write.

// TestSlowReaderIsNotSilent: a peer that takes bytes from a queue which dill
// filled long ago is neither idle nor silent, and gets all of it.
func TestSlowReaderIsNotSilent(t *testing.T) {
	const (
		limit = 1500 * time.Millisecond // a busy machine is not silent for so long
		n     = 1 << 20
		piece = 40 << 10
		pause = limit / 10 // 26 pieces: more than twice the limit
	)
	small := Socket{RcvBuf: 16 << 10}
	tests := []struct {
		name  string
		cfg   dataplane.Config
		end   []Op // after all is written
		heard Op   // after all is read
		count string
	}{
		{"idle timeout", dataplane.Config{IdleTimeout: limit}, nil, ReadToReset(n), "idle_timeout"},
		{"half-close timeout", dataplane.Config{HalfCloseTimeout: limit}, []Op{HalfClose()}, ReadToEOF(n), "half_close_timeout"},
		{"pending reset", dataplane.Config{HalfCloseTimeout: limit}, []Op{Acked(), Reset()}, ReadToReset(n), "reset_undelivered"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.cfg.NearBuffer = -1 // dill writes everything at once
			r := start(t, setup{cfg: test.cfg, sockets: small})
			cut := since(test.count)
			client, server := r.openFrom(t, small)
			server.Must(t, append([]Op{Write(n)}, test.end...)...)
			client.Must(t, ReadPaced(n, piece, pause))
			if cut() != 0 {
				t.Errorf("%s counted %d while the client was reading", test.count, cut())
			}
			client.Must(t, test.heard)
		})
	}
}

// TestStoppedReaderIsSilent: one that takes nothing is, although the kernel
// goes on asking it for room.
func TestStoppedReaderIsSilent(t *testing.T) {
	const limit = 300 * time.Millisecond
	for _, size := range []int{4 << 10, 64 << 10} {
		t.Run(fmt.Sprint("window of ", size), func(t *testing.T) {
			small := Socket{RcvBuf: size}
			r := start(t, setup{cfg: dataplane.Config{IdleTimeout: limit}, sockets: small})
			cut := since("idle_timeout")
			_, server := r.openFrom(t, small)
			server.Must(t, Write(1<<20))
			begun := time.Now()
			Eventually(t, "the session is gone", func() bool { return dataplane.Stats().Sessions == 0 })
			took(t, "the end", time.Since(begun), limit/2, 2*limit+2*time.Second)
			counts(t, "idle_timeout", cut, 1)
		})
	}
}

// TestPendingResetDoesNotSpin: a session that was silent for longer than the
// half-close timeout when its backend resets looks every 100 ms whether the
// reset may pass, and does not wake its loop with every tick.
func TestPendingResetDoesNotSpin(t *testing.T) {
	small := Socket{RcvBuf: 4 << 10}
	r := start(t, setup{cfg: dataplane.Config{Loops: 1, HalfCloseTimeout: time.Minute}, sockets: small})
	_, server := r.openFrom(t, small)
	server.Must(t, Write(100_000), Acked())
	r.inject(t, func() { r.engine.Age(2 * time.Minute) })
	server.Must(t, Reset())
	const d = 500 * time.Millisecond
	batches, undelivered := since("batches"), since("reset_undelivered")
	Steady(t, d, "the reset waits", func() bool { return dataplane.Stats().Sessions == 1 && undelivered() == 0 })
	// 2, 4, 8 … 64 and then every 100 ms, and what the wheel needs to get there.
	if n := batches(); n > 50 {
		t.Errorf("woken %d times in %v", n, d)
	}
}

// TestFINAfterLongSilence: the half-close timeout of a session whose reader has
// stopped for longer begins when the other side ends, and not in the past.
func TestFINAfterLongSilence(t *testing.T) {
	const n = 500_000 // more than the send buffer in dill takes, less than that and the pipe behind it
	small := Socket{RcvBuf: 4 << 10}
	cfg := dataplane.Config{Loops: 1, HalfCloseTimeout: time.Minute, Splice: dataplane.SpliceAlways, NearBuffer: 64 << 10}
	r := start(t, setup{cfg: cfg, sockets: small})
	client, server := r.openFrom(t, small)
	server.Must(t, Write(n), Acked())
	r.inject(t, func() { r.engine.Age(2 * time.Minute) })
	cut := since("half_close_timeout")
	server.Must(t, HalfClose())
	Steady(t, 200*time.Millisecond, "the session lives", func() bool { return cut() == 0 })
	client.Must(t, ReadToEOF(n), Close())
}
