package dataplane_test

import (
	"fmt"
	"io"
	"syscall"
	"testing"
	"time"

	"dill/dataplane"
	. "dill/dataplane/dptest"
)

// TestResetBehindStalledReader: a sender that resets while its bytes wait for a
// reader that stopped is not kept for ever, but as long as a half-closed
// session.
func TestResetBehindStalledReader(t *testing.T) {
	r := start(t, setup{cfg: dataplane.Config{HalfCloseTimeout: 300 * time.Millisecond}})
	_, server := r.open(t)
	server.Must(t, WriteUntilStalled(stalledMax, 100*time.Millisecond), Reset())
	Eventually(t, "the session is gone", func() bool { return dataplane.Stats().Sessions == 0 })
}

// TestUrgentByteEndsNothing: reads stop short at the mark of an urgent byte,
// and splice takes it for the end. What comes after it is delivered.
func TestUrgentByteEndsNothing(t *testing.T) {
	for name, mode := range map[string]dataplane.SpliceMode{"copy": dataplane.SpliceNever, "splice": dataplane.SpliceAlways} {
		t.Run(name, func(t *testing.T) {
			r := start(t, setup{cfg: dataplane.Config{Splice: mode}})
			client, server := r.open(t)
			r.stall(t, 50*time.Millisecond) // so that all of it is there at once
			for _, part := range []struct {
				text  string
				flags int
			}{{"abc", 0}, {"!", syscall.MSG_OOB}, {"def", 0}} {
				if err := sendRaw(client, part.text, part.flags); err != nil {
					t.Fatal(err)
				}
			}
			if err := client.Conn().CloseWrite(); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(server.Conn())
			if err != nil || string(got) != "abcdef" {
				t.Errorf("got %q, %v, want \"abcdef\"", got, err)
			}
		})
	}
}

// sendRaw sends text beside the peer's pattern.
func sendRaw(p *Peer, text string, flags int) error {
	raw, err := p.Conn().SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	if err := raw.Control(func(fd uintptr) { sent = syscall.Sendto(int(fd), []byte(text), flags, nil) }); err != nil {
		return err
	}
	return sent
}

// urgentByte is one byte out of band, which no stream has.
func urgentByte() Op {
	return Op{Name: "urgent byte", Do: func(p *Peer) error { return sendRaw(p, "!", syscall.MSG_OOB) }}
}

// TestUrgentByteInABigStream: what follows an urgent byte is delivered at once,
// although no end follows, and to the last byte when a reset does.
func TestUrgentByteInABigStream(t *testing.T) {
	const big, rest = 4 << 20, 21
	eachMode(t, setup{}, func(t *testing.T, r *rig) {
		eachSide(t, r, func(t *testing.T, sender, reader *Peer) {
			for range 3 {
				Play(t,
					Role{Name: "sender", Peer: sender, Ops: []Op{Write(big), urgentByte(), Write(rest)}},
					Role{Name: "reader", Peer: reader, Ops: []Op{Read(big + rest)}})
			}
		})
		for round := range 10 {
			t.Run(fmt.Sprint("reset ", round), func(t *testing.T) {
				eachSide(t, r, func(t *testing.T, sender, reader *Peer) {
					Play(t,
						Role{Name: "sender", Peer: sender, Ops: []Op{Write(big), urgentByte(), Write(rest), Acked(), Reset()}},
						Role{Name: "reader", Peer: reader, Ops: []Op{ReadToReset(big + rest)}})
				})
			})
		}
	})
}
