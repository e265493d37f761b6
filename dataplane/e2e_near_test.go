package dataplane_test

import (
	"testing"
	"time"

	"dill/dataplane"
	. "dill/dataplane/dptest"
)

// near is a transfer large enough to be spliced, and where it goes to.
func (r *rig) large(t *testing.T) {
	t.Helper()
	const big = 16 << 20
	eachSide(t, r, func(t *testing.T, sender, reader *Peer) {
		Play(t,
			Role{Name: "sender", Peer: sender, Ops: []Op{Write(big), HalfClose(), ReadToEOF(0), Close()}},
			Role{Name: "reader", Peer: reader, Ops: []Op{ReadToEOF(big), Close()}})
	})
}

// TestNearStreams: a large stream to a peer on this host is near, in both
// directions; a stream that is copied is never judged, and 0 is off.
func TestNearStreams(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  dataplane.Config
		near uint64
	}{
		{"on this host", dataplane.Config{}, 2},
		{"off", dataplane.Config{NearBuffer: -1}, 0},
		{"copied", dataplane.Config{Splice: dataplane.SpliceNever}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			near := since("near_streams")
			start(t, setup{cfg: c.cfg}).large(t)
			if n := near(); n != c.near {
				t.Errorf("%d near streams, want %d", n, c.near)
			}
		})
	}
}

// TestNearReaderThatStopsHoldsLittle: of what a reader on this host does not
// take, no more than the window waits in the socket towards it.
func TestNearReaderThatStopsHoldsLittle(t *testing.T) {
	const window = 128 << 10
	// The peers' own buffers are bounded, so that only dill's count.
	small := Socket{RcvBuf: 64 << 10, SndBuf: 64 << 10}
	held := func(t *testing.T, near int) int {
		r := start(t, setup{cfg: dataplane.Config{NearBuffer: near, Loops: 1}, sockets: small})
		sender, reader := r.openFrom(t, small)
		Play(t,
			Role{Name: "sender", Peer: sender, Ops: []Op{Write(16 << 20)}},
			Role{Name: "reader", Peer: reader, Ops: []Op{Read(16 << 20)}})
		sender.Must(t, WriteUntilStalled(sender.Sent()+stalledMax, 200*time.Millisecond))
		defer reader.Must(t, Reset())
		defer sender.Must(t, Reset())
		// Not what the sender got rid of: the kernel tunes dill's receive buffer.
		n, err := Queued(socketBetween(t, reader.Remote(), r.backends[0].Addr()))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	with, without := held(t, window), held(t, -1)
	t.Logf("held: %d bytes with a window of %d, %d without", with, window, without)
	if with >= without {
		t.Errorf("%d bytes are held with a small window, %d without", with, without)
	}
}
