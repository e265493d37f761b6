package load

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// fault is what a bad proxy does to the bytes of one direction. It gets each
// piece that was read, with how many came before it.
type fault func(piece []byte, before int) []byte

// badProxy relays to target with the faults, until the test ends. It is what
// the benchmarks must never mistake for a fast proxy.
func badProxy(t *testing.T, target netip.AddrPort, up, down fault) []netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	closed := false
	all.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			backend, err := net.Dial("tcp4", target.String())
			if err != nil {
				client.Close()
				continue
			}
			mu.Lock()
			if closed {
				client.Close()
				backend.Close()
			}
			open = append(open, client, backend)
			mu.Unlock()
			all.Go(func() { spoil(backend, client, up) })
			all.Go(func() { spoil(client, backend, down) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		closed = true
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return []netip.AddrPort{ln.Addr().(*net.TCPAddr).AddrPort()}
}

func spoil(to, from net.Conn, f fault) {
	buf := make([]byte, 32<<10)
	before := 0
	for {
		n, err := from.Read(buf)
		if n > 0 {
			piece := buf[:n]
			if f != nil {
				piece = f(piece, before)
			}
			before += n
			if _, err := to.Write(piece); err != nil {
				return
			}
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				to.(*net.TCPConn).CloseWrite()
			}
			return
		}
	}
}

// from applies f once, to the piece in which byte number at of the direction is.
func from(at int, f func([]byte) []byte) fault {
	done := false
	return func(piece []byte, before int) []byte {
		if done || before+len(piece) <= at {
			return piece
		}
		done = true
		return f(bytes.Clone(piece))
	}
}

func TestBadProxyIsCaught(t *testing.T) {
	sinks := serve(t, nil)
	// Beyond the hello, and for streams beyond the first samples: the counts
	// tell what no sample saw.
	const late = 300_000
	drop := func(b []byte) []byte { return b[:len(b)-1] }
	double := func(b []byte) []byte { return append(b, b[len(b)-1]) }
	flip := func(b []byte) []byte { b[len(b)-1] ^= 1; return b }
	tests := []struct {
		name, load string
		up, down   fault
	}{
		{"upload loses a byte", "upload", from(late, drop), nil},
		{"upload doubles a byte", "upload", from(late, double), nil},
		{"upload flips bits", "upload", func(b []byte, before int) []byte {
			if before > 0 {
				b[0] ^= 1
			}
			return b
		}, nil},
		{"download loses a byte", "download", nil, from(late, drop)},
		{"download doubles a byte", "download", nil, from(late, double)},
		{"download flips bits", "download", nil, func(b []byte, _ int) []byte { b[0] ^= 1; return b }},
		{"request flips a bit", "requests", from(1000, flip), nil},
		{"answer flips a bit", "requests", nil, from(1000, flip)},
		{"answer doubles a byte", "requests", nil, from(1000, double)},
		{"short connection flips a bit", "connects", nil, from(0, flip)},
		{"short connection sends more", "connects", nil, from(0, double)},
		{"idle flips a bit", "idle", nil, from(1000, flip)},
		{"idle flips a bit going up", "idle", from(1000, flip), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			spec := short(badProxy(t, sinks[0], tt.up, tt.down))[tt.load]
			spec.Conns = 1 // the faults count for one connection
			// Long enough to reach the fault on a busy machine, too.
			spec.Duration = 300 * time.Millisecond
			if spec.Kind == Requests {
				spec.Duration = 5 * time.Second // it ends at the fault
			}
			if r, err := Run(t.Context(), spec); err == nil {
				t.Errorf("passed: %+v", r)
			}
		})
	}
}

// TestEchoIsNoAnswer has a proxy that never asks the sink: it sends everything
// back, which would be very fast.
func TestEchoIsNoAnswer(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	defer all.Wait()
	defer ln.Close()
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() { defer c.Close(); io.Copy(c, c) })
		}
	})
	targets := []netip.AddrPort{ln.Addr().(*net.TCPAddr).AddrPort()}
	for _, name := range []string{"requests", "connects", "open", "download"} {
		if _, err := Run(t.Context(), short(targets)[name]); err == nil {
			t.Errorf("%s: an echo passed for a sink", name)
		}
	}
}
