package dataplane_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os/exec"
	"testing"
	"time"

	"dill/dataplane"
	. "dill/dataplane/dptest"
)

// The tests of this file run an engine in a network namespace that has another
// one some milliseconds away, where the backend is.

// farTask is what the child is to do.
type farTask struct {
	Config dataplane.Config
	Veth   bool          // no wire between, only a veth pair
	Delay  time.Duration // of one way, at the start
	Then   time.Duration // and once the stream is near; 0 = it stays
}

// farDone is what came of it.
type farDone struct {
	Skip  string // why this machine cannot do it
	Err   string // "" = every byte arrived
	Stats dataplane.Snapshot
}

// far sends one large stream through an engine to a backend far away.
func far(t *testing.T, task farTask) dataplane.Snapshot {
	t.Helper()
	child := SpawnIsolated(t, "far")
	var done farDone
	child.Tell(t, task)
	child.Hear(t, &done)
	if done.Skip != "" {
		t.Skip(done.Skip)
	}
	if done.Err != "" {
		t.Errorf("%s\n%v", done.Err, done.Stats)
	}
	return done.Stats
}

// TestFarStreamsAreNotTouched: a round trip above near_rtt is far.
func TestFarStreamsAreNotTouched(t *testing.T) {
	stats := far(t, farTask{Config: dataplane.Config{NearRTT: 5 * time.Millisecond}, Delay: 10 * time.Millisecond})
	if n := stats.Get("near_streams"); n != 0 {
		t.Errorf("%d streams over 20 ms are near", n)
	}
	if stats.Get("spliced_bytes") == 0 {
		t.Error("the stream was not spliced: nothing was judged")
	}
}

// TestNearByRoundTrip: a peer elsewhere is near only with near_rtt.
func TestNearByRoundTrip(t *testing.T) {
	if n := far(t, farTask{Config: dataplane.Config{NearRTT: time.Second}}).Get("near_streams"); n != 1 {
		t.Errorf("%d near streams within near_rtt, want 1", n)
	}
	if n := far(t, farTask{}).Get("near_streams"); n != 0 {
		t.Errorf("%d near streams to another host without near_rtt, want 0", n)
	}
}

// TestNearStreamThatBecomesFar: a near stream whose round trip grows gets the
// system's tuning back, and loses nothing.
func TestNearStreamThatBecomesFar(t *testing.T) {
	stats := far(t, farTask{Config: dataplane.Config{NearRTT: time.Second}, Then: 10 * time.Millisecond})
	if n := stats.Get("near_widened"); n != 1 {
		t.Errorf("%d streams were given back, want 1", n)
	}
}

// TestContainersAreNear: a peer behind a veth pair is on this host.
func TestContainersAreNear(t *testing.T) {
	if n := far(t, farTask{Veth: true}).Get("near_streams"); n != 1 {
		t.Errorf("%d near streams to another namespace, want 1", n)
	}
}

func playFar(parent *Parent) {
	if err := RaiseLoopback(); err != nil {
		Die("start", err)
	}
	var task farTask
	for parent.Hear(&task) {
		wire, err := task.wire()
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, exec.ErrNotFound) {
				parent.Tell(farDone{Skip: err.Error()})
				continue
			}
			Die("far network", err)
		}
		done := farDone{}
		if err := stretch(wire, task); err != nil {
			done.Err = err.Error()
		}
		done.Stats = dataplane.Stats()
		parent.Tell(done)
	}
}

// wire is what lies between the engine and the backend. It stays until the child
// ends.
type wire interface {
	Listen() (net.Listener, error)
}

func (task farTask) wire() (wire, error) {
	if task.Veth {
		return NewVeth()
	}
	return NewFar(task.Delay)
}

// stretch sends a stream over the wire, through an engine, and compares what
// arrives.
func stretch(wire wire, task farTask) error {
	ln, err := wire.Listen()
	if err != nil {
		return err
	}
	defer ln.Close()
	arrived := make(chan []byte, 1)
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			arrived <- nil
			return
		}
		defer conn.Close()
		hash := sha256.New()
		_, _ = io.Copy(hash, conn)
		arrived <- hash.Sum(nil)
	}()
	e, err := dataplane.New(task.Config, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		return err
	}
	front := netip.MustParseAddrPort("127.0.0.1:2000")
	e.Publish(newTable(nil, serving(front, ln.Addr().(*net.TCPAddr).AddrPort())))
	if !Poll(Patience, func() bool { err, ok := e.Listening()[front]; return ok && err == nil }) {
		return e.Listening()[front]
	}
	conn, err := net.Dial("tcp", front.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	sent, err := pour(conn, wire, task.Then)
	if err != nil {
		return err
	}
	if got := <-arrived; !bytes.Equal(got, sent) {
		return fmt.Errorf("sent %x, arrived %x", sent, got)
	}
	return nil
}

// pour writes until something is proven, and returns the hash of it: 8 MiB,
// and for a wire that is to become longer, until the engine has noticed.
func pour(conn net.Conn, wire wire, then time.Duration) ([]byte, error) {
	const least = 8 << 20
	hash := sha256.New()
	random := rand.NewChaCha8([32]byte{1})
	piece := make([]byte, 128<<10)
	near, widened := since("near_streams"), since("near_widened")
	deadline := time.Now().Add(Patience)
	for n := 0; n < least || then > 0 && widened() == 0 && time.Now().Before(deadline); n += len(piece) {
		if then > 0 && near() > 0 {
			wire.(*Far).SetDelay(then)
		}
		_, _ = random.Read(piece)
		hash.Write(piece)
		if _, err := conn.Write(piece); err != nil {
			return nil, err
		}
	}
	return hash.Sum(nil), conn.(*net.TCPConn).CloseWrite()
}
