package dataplane_test

import (
	"fmt"
	"testing"
	"time"

	"dill/dataplane"
	. "dill/dataplane/dptest"
)

// script is what the two ends of a session do.
type script struct {
	name           string
	client, server []Op
}

// endings are all orders in which two sides can finish cleanly after n bytes.
func endings(n int64) []script {
	bothWays := func() []Op {
		return []Op{Both([]Op{Write(n), HalfClose()}, []Op{ReadToEOF(n)}), Close()}
	}
	return []script{
		{"client sends and ends, then server",
			[]Op{Write(n), HalfClose(), ReadToEOF(n)},
			[]Op{ReadToEOF(n), Write(n), Close()}},
		{"server sends and ends, then client",
			[]Op{ReadToEOF(n), Write(n), Close()},
			[]Op{Write(n), HalfClose(), ReadToEOF(n)}},
		{"client ends at once, server answers",
			[]Op{HalfClose(), ReadToEOF(n)},
			[]Op{ReadToEOF(0), Write(n), Close()}},
		{"server ends at once, client goes on",
			[]Op{ReadToEOF(0), Write(n), Close()},
			[]Op{HalfClose(), ReadToEOF(n)}},
		{"client sends and closes",
			[]Op{Write(n), Close()},
			[]Op{ReadToEOF(n), Close()}},
		{"server sends and closes",
			[]Op{ReadToEOF(n), Close()},
			[]Op{Write(n), Close()}},
		{"both at once", bothWays(), bothWays()},
		{"request, answer, client closes",
			[]Op{Write(n), Read(n), Close()},
			[]Op{Read(n), Write(n), ReadToEOF(n), Close()}},
		{"request, answer, server closes",
			[]Op{Write(n), ReadToEOF(n), Close()},
			[]Op{Read(n), Write(n), Close()}},
		{"server answers before it was asked",
			[]Op{Read(n), Write(n), HalfClose(), ReadToEOF(n)},
			[]Op{Write(n), ReadToEOF(n), Close()}},
	}
}

// TestFINPassesAsFIN: a clean end passes in both directions and in every order,
// after everything before it was delivered.
func TestFINPassesAsFIN(t *testing.T) {
	eachMode(t, setup{}, func(t *testing.T, r *rig) {
		for _, n := range []int64{0, 1, 1000, 64 << 10, 5 << 20} {
			for _, s := range endings(n) {
				t.Run(fmt.Sprintf("%d bytes, %s", n, s.name), func(t *testing.T) {
					t.Parallel()
					r.play(t, s.client, s.server)
				})
			}
		}
	})
}

// TestFINWaitsForSlowReader: the end is held back behind bytes that a reader
// with a small window has not taken yet.
func TestFINWaitsForSlowReader(t *testing.T) {
	small := Socket{RcvBuf: 4 << 10}
	eachMode(t, setup{sockets: small}, func(t *testing.T, r *rig) {
		const n = 300_000
		t.Run("client reads", func(t *testing.T) {
			client, server := r.openFrom(t, small)
			server.Must(t, Write(n), Close())
			client.Must(t, ReadChunks(5000, 100), ReadToEOF(n), Close())
		})
		t.Run("server reads", func(t *testing.T) {
			client, server := r.openFrom(t, small)
			client.Must(t, Write(n), Close())
			server.Must(t, ReadChunks(5000, 100), ReadToEOF(n), Close())
		})
	})
}

// TestFINWithOneByteReads: nothing is lost or reordered when both sides use the
// smallest pieces, on small windows.
func TestFINWithOneByteReads(t *testing.T) {
	small := Socket{RcvBuf: 2 << 10, SndBuf: 2 << 10}
	eachMode(t, setup{sockets: small}, func(t *testing.T, r *rig) {
		const n = 20_000
		client, server := r.openFrom(t, small)
		side := []Op{Both([]Op{WriteChunks(n, 7), HalfClose()}, []Op{ReadChunks(n-1, 3), ReadToEOF(n)})}
		Play(t, Role{Name: "client", Peer: client, Ops: side}, Role{Name: "server", Peer: server, Ops: side})
	})
}

// TestHalfCloseTimeout: a session of which one side has finished is reset, on
// both sides, once no byte moved for the timeout.
func TestHalfCloseTimeout(t *testing.T) {
	const limit = 200 * time.Millisecond
	r := start(t, setup{cfg: dataplane.Config{HalfCloseTimeout: limit}})
	counted := since("half_close_timeout")
	for _, finished := range []string{"client", "server"} {
		t.Run(finished+" half-closed", func(t *testing.T) {
			quiet, other := r.open(t)
			if finished == "server" {
				quiet, other = other, quiet
			}
			begun := time.Now()
			quiet.Must(t, HalfClose())
			other.Must(t, ReadToEOF(0))
			quiet.Must(t, ReadToReset(0))
			took(t, "the reset", time.Since(begun), limit, limit+2*time.Second)
			other.Must(t, WriteToReset())
		})
	}
	counts(t, "half_close_timeout", counted, 2)
}

// TestHalfCloseTimeoutCountsFromLastByte: a half-closed session that still
// moves bytes is not cut.
func TestHalfCloseTimeoutCountsFromLastByte(t *testing.T) {
	eachMode(t, setup{cfg: dataplane.Config{HalfCloseTimeout: 200 * time.Millisecond}}, func(t *testing.T, r *rig) {
		const n = 10
		r.play(t,
			[]Op{HalfClose(), ReadToEOF(n)},
			[]Op{ReadToEOF(0), WritePaced(n, 1, 40*time.Millisecond), Close()})
	})
}
