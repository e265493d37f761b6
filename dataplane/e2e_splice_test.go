package dataplane_test

import (
	"fmt"
	"testing"
	"time"

	"dill/dataplane"
	. "dill/dataplane/dptest"
)

// The fast path, and regression tests for the five ways in which proxies that
// splice have gone wrong before.

// TestSpliceIsTaken: a large transfer goes through pipes and small messages do
// not touch one.
func TestSpliceIsTaken(t *testing.T) {
	const big = 32 << 20
	t.Run("large transfer", func(t *testing.T) {
		r := start(t, setup{})
		eachSide(t, r, func(t *testing.T, sender, reader *Peer) {
			spliced := since("spliced_bytes")
			Play(t,
				Role{Name: "sender", Peer: sender, Ops: []Op{Write(big), HalfClose(), ReadToEOF(0), Close()}},
				Role{Name: "reader", Peer: reader, Ops: []Op{ReadToEOF(big), Close()}})
			if spliced() < big*8/10 {
				t.Errorf("%d of %d bytes were spliced", spliced(), big)
			}
		})
	})
	t.Run("small messages", func(t *testing.T) {
		r := start(t, setup{serve: echoes})
		spliced, splices := since("spliced_bytes"), since("splices")
		client := Dial(t, r.front)
		for range 1000 {
			if err := roundTrip(client, make([]byte, 200)); err != nil {
				t.Fatal(err)
			}
		}
		if spliced() != 0 || splices() != 0 {
			t.Errorf("%d bytes in %d splices", spliced(), splices())
		}
	})
	t.Run("never when switched off", func(t *testing.T) {
		r := start(t, setup{cfg: dataplane.Config{Splice: dataplane.SpliceNever}})
		splices := since("splices")
		r.play(t, []Op{Write(big), ReadToEOF(0), Close()}, []Op{Read(big), Close()})
		if splices() != 0 {
			t.Errorf("%d splices", splices())
		}
	})
}

// quiet checks that the process hardly uses its processors for a while: nothing
// in it spins.
func quiet(t *testing.T, what string) {
	t.Helper()
	const span = 300 * time.Millisecond
	batches := since("batches")
	cpu := CPU()
	Poll(span, func() bool { return false })
	if used := CPU() - cpu; used > span/4 {
		t.Errorf("%s: %v of processor time in %v", what, used, span)
	}
	if batches() > 100 {
		t.Errorf("%s: %d batches in %v", what, batches(), span)
	}
}

// TestSmallPipesSplice: with the smallest pipes that are worth their calls, and
// when smaller ones are asked for, a large transfer stays in pipes.
func TestSmallPipesSplice(t *testing.T) {
	const n = 32 << 20
	for _, size := range []int{64 << 10, 4 << 10} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			r := start(t, setup{cfg: dataplane.Config{PipeSize: size}})
			spliced := since("spliced_bytes")
			r.play(t, []Op{Write(n), HalfClose(), ReadToEOF(0), Close()}, []Op{ReadToEOF(n), Close()})
			if got := spliced(); got < n/2 {
				t.Errorf("%d of %d bytes were spliced", got, n)
			}
		})
	}
}

// TestSpliceDoesNotSpinAtTheEnd: the source has ended while the pipe still
// holds data that the reader does not take.
func TestSpliceDoesNotSpinAtTheEnd(t *testing.T) {
	eachMode(t, setup{}, func(t *testing.T, r *rig) {
		for _, end := range []Op{HalfClose(), Close(), Reset()} {
			t.Run(end.Name, func(t *testing.T) {
				sender, reader := r.open(t)
				sender.Must(t, WriteUntilStalled(stalledMax, 50*time.Millisecond), end)
				quiet(t, "while the reader has stopped")
				if end.Name == "reset" {
					reader.Must(t, ReadToReset(-1), Close())
				} else {
					reader.Must(t, ReadToEOF(sender.Sent()), Close())
				}
			})
		}
	})
}

// TestSpliceTwoFullPipes: both directions are stuck; neither wakes the other
// in vain, and both go on when their readers do.
func TestSpliceTwoFullPipes(t *testing.T) {
	eachMode(t, setup{}, func(t *testing.T, r *rig) {
		client, server := r.open(t)
		client.Must(t, WriteUntilStalled(stalledMax, 100*time.Millisecond))
		server.Must(t, WriteUntilStalled(stalledMax, 100*time.Millisecond))
		quiet(t, "with both directions full")
		// One direction moves: the other must not spin along.
		server.Must(t, Read(client.Sent()))
		quiet(t, "with one direction full")
		Play(t,
			Role{Name: "client", Peer: client, Ops: []Op{ReadToEOF(server.Sent()), Close()}},
			Role{Name: "server", Peer: server, Ops: []Op{Close()}})
	})
}

// TestSpliceDoesNotFreezeWithResidue: what is left in the pipe is delivered
// although the source sends nothing more and does not end.
func TestSpliceDoesNotFreezeWithResidue(t *testing.T) {
	small := Socket{RcvBuf: 4 << 10}
	eachMode(t, setup{sockets: small}, func(t *testing.T, r *rig) {
		for _, piece := range []int{1, 1000, 4096, 60_000} {
			t.Run(fmt.Sprint("pieces of ", piece), func(t *testing.T) {
				const n = 400_000
				client, server := r.openFrom(t, small)
				client.Must(t, Write(n))
				server.Must(t, ReadChunks(min(n, 3000*int64(piece)), piece), ReadChunks(n-min(n, 3000*int64(piece)), 4096))
				// And once more in the other direction, on the same session.
				server.Must(t, Write(n))
				client.Must(t, ReadChunks(n, 4096))
			})
		}
	})
}

// TestSpliceFreesPipesOnError: sessions that die with data in their pipes
// leave no descriptor behind.
func TestSpliceFreesPipesOnError(t *testing.T) {
	const sessions = 40
	r := start(t, setup{cfg: dataplane.Config{Splice: dataplane.SpliceAlways, Loops: 2, PipeSize: 64 << 10}})
	ends := map[string]func(sender, reader *Peer) error{
		"sender resets": func(sender, _ *Peer) error { return sender.Reset() },
		"reader resets": func(_, reader *Peer) error { return reader.Reset() },
		"both reset":    func(s, r *Peer) error { _ = s.Reset(); return r.Reset() },
		"reader closes": func(_, reader *Peer) error { return reader.Close() },
	}
	round := func(t *testing.T, end func(sender, reader *Peer) error) {
		var pairs [][2]*Peer
		for range sessions {
			client, server := r.open(t)
			client.Must(t, Write(100_000))
			pairs = append(pairs, [2]*Peer{client, server})
		}
		for _, p := range pairs[:sessions/4] {
			p[0].Must(t, WriteUntilStalled(stalledMax, 10*time.Millisecond))
		}
		for i, p := range pairs {
			if i%2 == 0 {
				p[0], p[1] = p[1], p[0] // the other end acts
			}
			if err := end(p[0], p[1]); err != nil {
				t.Fatal(err)
			}
		}
		for _, p := range pairs {
			_, _ = p[0].Reset(), p[1].Reset()
		}
		Eventually(t, "all sessions are gone", func() bool { return dataplane.Stats().Sessions == 0 })
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			round(t, end)
			files := OpenFiles()
			round(t, end)
			// The loops keep some empty pipes; how many depends on chance.
			if grown := OpenFiles() - files; grown > 2*2*16 {
				t.Errorf("%d more descriptors after the second round", grown)
			}
		})
	}
}

// TestIdleSessionHoldsTwoDescriptors: a session that has moved a megabyte each
// way and is idle holds its two sockets and no pipe.
func TestIdleSessionHoldsTwoDescriptors(t *testing.T) {
	const sessions, n, loops, kept = 50, 1 << 20, 2, 16
	r := start(t, setup{cfg: dataplane.Config{Splice: dataplane.SpliceAlways, Loops: loops}})
	files := OpenFiles()
	for range sessions {
		client, server := r.open(t)
		Play(t,
			Role{Name: "client", Peer: client, Ops: []Op{Write(n), Read(n)}},
			Role{Name: "server", Peer: server, Ops: []Op{Read(n), Write(n)}})
	}
	// The peers of the test have two sockets each session as well.
	if grown := OpenFiles() - files - 4*sessions; grown > 2*kept*loops {
		t.Errorf("%d descriptors beside the sockets, want at most %d pipes in stock", grown, kept*loops)
	}
}

// TestSpliceSlowResponse: pieces that come slowly are not held back to be
// joined with the next (SPLICE_F_MORE did that, 200 ms at a time).
func TestSpliceSlowResponse(t *testing.T) {
	eachMode(t, setup{}, func(t *testing.T, r *rig) {
		for _, size := range []int64{1, 1000, 20_000, 100_000, 300_000} {
			t.Run(fmt.Sprint(size, " bytes"), func(t *testing.T) {
				const rounds = 25
				var client, server []Op
				for range rounds {
					client = append(client, Write(1), Read(size))
					server = append(server, Read(1), WriteChunks(size, int(size/3+1)))
				}
				begun := time.Now()
				r.play(t, append(client, Close()), append(server, ReadToEOF(rounds), Close()))
				took(t, "25 exchanges", time.Since(begun), 0, 2*time.Second)
			})
		}
	})
}

// TestSplicePatternSwitches: a stream that is big, then small, then big again,
// with pauses, arrives whole whatever way its pieces take.
func TestSplicePatternSwitches(t *testing.T) {
	eachMode(t, setup{}, func(t *testing.T, r *rig) {
		eachSide(t, r, func(t *testing.T, sender, reader *Peer) {
			var send []Op
			var total int64
			for range 3 {
				send = append(send, Write(3<<20), WritePaced(2000, 100, time.Millisecond), WriteChunks(50_000, 1000))
				total += 3<<20 + 2000 + 50_000
			}
			Play(t,
				Role{Name: "sender", Peer: sender, Ops: append(send, HalfClose(), ReadToEOF(0), Close())},
				Role{Name: "reader", Peer: reader, Ops: []Op{ReadToEOF(total), Close()}})
		})
	})
}
