package dataplane_test

import (
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
			raw, err := client.Conn().SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			send := func(p string, flags int) {
				var err error
				if e := raw.Control(func(fd uintptr) { err = syscall.Sendto(int(fd), []byte(p), flags, nil) }); e != nil || err != nil {
					t.Fatal(e, err)
				}
			}
			r.stall(t, 50*time.Millisecond) // so that all of it is there at once
			send("abc", 0)
			send("!", syscall.MSG_OOB)
			send("def", 0)
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
