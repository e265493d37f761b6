package dataplane_test

import (
	"net/netip"
	"runtime"
	"testing"
	"time"

	"dill/dataplane"
	. "dill/dataplane/dptest"
)

// The kernel lets one socket buffer grow to 6 MB at most by default, and some
// machines allow more; what a stopped reader leaves behind is four buffers and
// what dill holds.
const stalledMax = 48 << 20

// TestStoppedReaderStopsSender: backpressure reaches the sender after a bounded
// number of bytes, in both directions, and everything arrives once the reader
// goes on.
func TestStoppedReaderStopsSender(t *testing.T) {
	eachMode(t, setup{}, func(t *testing.T, r *rig) {
		eachSide(t, r, func(t *testing.T, sender, reader *Peer) {
			sender.Must(t, WriteUntilStalled(stalledMax, 200*time.Millisecond))
			Play(t,
				Role{Name: "sender", Peer: sender, Ops: []Op{Write(1 << 20), HalfClose()}},
				Role{Name: "reader", Peer: reader, Ops: []Op{ReadToEOF(sender.Sent() + 1<<20), Close()}})
		})
	})
}

// TestBothReadersStopped: both directions full at once do not block each other
// for good.
func TestBothReadersStopped(t *testing.T) {
	eachMode(t, setup{}, func(t *testing.T, r *rig) {
		client, server := r.open(t)
		client.Must(t, WriteUntilStalled(stalledMax, 150*time.Millisecond))
		server.Must(t, WriteUntilStalled(stalledMax, 150*time.Millisecond))
		Play(t,
			Role{Name: "client", Peer: client, Ops: []Op{Both([]Op{Write(1 << 20), HalfClose()}, []Op{ReadToEOF(server.Sent() + 1<<20)})}},
			Role{Name: "server", Peer: server, Ops: []Op{Both([]Op{Write(1 << 20), HalfClose()}, []Op{ReadToEOF(client.Sent() + 1<<20)})}})
	})
}

// TestStoppedReaderHurtsNobodyElse: a session goes on at its pace while its
// neighbour on the same loop is stalled.
func TestStoppedReaderHurtsNobodyElse(t *testing.T) {
	eachMode(t, setup{cfg: dataplane.Config{Loops: 1}}, func(t *testing.T, r *rig) {
		stalled, _ := r.open(t)
		stalled.Must(t, WriteUntilStalled(stalledMax, 100*time.Millisecond))
		const n = 4 << 20
		begun := time.Now()
		r.play(t, []Op{Write(n), ReadToEOF(n), Close()}, []Op{Read(n), Write(n), Close()})
		took(t, "the neighbour's transfer", time.Since(begun), 0, 5*time.Second)
	})
}

// TestThousandStoppedReaders: each costs at most one pooled buffer or one pipe
// beside its socket buffers, and nothing grows with time. The peers are in
// another process, so that this one's heap and descriptors are the engine's.
func TestThousandStoppedReaders(t *testing.T) {
	const (
		sessions   = 1000
		bufferSize = 64 << 10 // the most a pooled buffer may take
		slack      = 8 << 20
	)
	for _, name := range []string{"copy", "splice"} {
		t.Run(name, func(t *testing.T) {
			backend := FreeAddr(t)
			r := start(t, setup{cfg: dataplane.Config{Splice: modes[name]}, backends: -1, dead: []netip.AddrPort{backend}})
			load := Spawn(t, "load") // after the rig, so that it ends first
			do(t, load, loadTask{Do: "listen", Addr: backend})
			heap, files := heapInUse(), OpenFiles()

			done := do(t, load, loadTask{Do: "stall", Addr: r.front, N: sessions})
			grown, opened := heapInUse()-heap, OpenFiles()-files
			if grown > sessions*bufferSize+slack {
				t.Errorf("the heap grew by %d bytes, %d a session", grown, grown/sessions)
			}
			if opened > 4*sessions+16 {
				t.Errorf("%d more descriptors, want at most two sockets and one pipe a session", opened)
			}
			t.Logf("%d senders got rid of %d bytes each; heap +%d bytes, descriptors +%d", sessions, done.Bytes/sessions, grown, opened)

			moved := since("copied_bytes")
			spliced := since("spliced_bytes")
			Steady(t, 500*time.Millisecond, "nothing moves", func() bool { return moved() == 0 && spliced() == 0 })
			if more := heapInUse() - heap; more > grown+slack {
				t.Errorf("the heap went on growing, from +%d to +%d bytes", grown, more)
			}
			do(t, load, loadTask{Do: "drop"})
			Eventually(t, "all sessions are gone", func() bool { return dataplane.Stats().Sessions == 0 })
			// Pipes may stay in the loops' caches, which are capped.
			Eventually(t, "sockets are closed", func() bool { return OpenFiles()-files < 600 })
		})
	}
}

// heapInUse is what the process's heap holds after a collection.
func heapInUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
