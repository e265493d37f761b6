package dptest

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	Main(m, map[string]func(*Parent){
		"doubler": func(p *Parent) {
			for n := 0; p.Hear(&n); {
				p.Tell(2 * n)
			}
		},
		"loner": func(p *Parent) {
			if err := RaiseLoopback(); err != nil {
				Die("start", err)
			}
			ln, err := net.Listen("tcp", "127.0.0.1:2000")
			if err != nil {
				Die("listen", err)
			}
			conn, err := net.Dial("tcp", "127.0.0.1:2000")
			if err != nil {
				Die("dial", err)
			}
			conn.Close()
			ln.Close()
			p.Tell("alive")
		},
	})
}

// startReference runs the plainest proxy there is, two io.Copy a connection, in
// front of addr. The peers are judged by it before they judge anything.
func startReference(t *testing.T, addr netip.AddrPort) netip.AddrPort {
	t.Helper()
	return Serve(t, func(p *Peer) {
		up, err := Connect(addr, Socket{})
		if err != nil {
			_ = p.Reset()
			return
		}
		defer up.Close()
		relay(p, up)
	}).Addr()
}

func TestPattern(t *testing.T) {
	whole := make([]byte, 1000)
	Pattern(7).Fill(whole, 0)
	for off := range 40 {
		for size := range 40 {
			piece := make([]byte, size)
			Pattern(7).Fill(piece, int64(off))
			if !bytes.Equal(piece, whole[off:off+size]) {
				t.Fatalf("Fill(%d bytes at %d) differs from the whole", size, off)
			}
			if i := Pattern(7).Mismatch(piece, int64(off)); i != -1 {
				t.Fatalf("Mismatch(%d bytes at %d) = %d, want -1", size, off, i)
			}
			for i := range piece {
				piece[i] ^= 0x80
				if got := Pattern(7).Mismatch(piece, int64(off)); got != i {
					t.Fatalf("Mismatch with byte %d of %d wrong = %d", i, size, got)
				}
				piece[i] ^= 0x80
			}
		}
	}
	if Pattern(8).Mismatch(whole, 0) > 4 {
		t.Error("two seeds have a stretch in common")
	}
}

func TestPlayThroughReference(t *testing.T) {
	const big = 4 << 20
	tests := []struct {
		name           string
		client, server []Op
	}{
		{"client ends first",
			[]Op{Write(big), HalfClose(), ReadToEOF(10)},
			[]Op{ReadToEOF(big), Write(10), Close()}},
		{"server ends first",
			[]Op{ReadToEOF(big), Write(10), Close()},
			[]Op{Write(big), HalfClose(), ReadToEOF(10)}},
		{"both at once",
			[]Op{Both([]Op{Write(big), HalfClose()}, []Op{ReadToEOF(big)})},
			[]Op{Both([]Op{WriteChunks(big, 1000), HalfClose()}, []Op{ReadChunks(5, 1), ReadToEOF(big)})}},
		{"ping-pong",
			[]Op{Write(100), Read(200), Write(100), Read(200), Close()},
			[]Op{Read(100), Write(200), Read(100), Write(200), ReadToEOF(200), Close()}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			backend := Listen(t)
			client := Dial(t, startReference(t, backend.Addr()))
			server := backend.Accept(t)
			Pair(client, server)
			Play(t, Role{"client", client, test.client}, Role{"server", server, test.server})
		})
	}
}

// TestPeerFinds checks that a script fails where a stream is not what it should
// be: a test with blind peers proves nothing.
func TestPeerFinds(t *testing.T) {
	tests := []struct {
		name           string
		client, server []Op
	}{
		{"a truncated stream", []Op{ReadToEOF(100)}, []Op{Write(99), Close()}},
		{"a byte too many", []Op{ReadToEOF(100)}, []Op{Write(101), Close()}},
		{"a reset instead of an end", []Op{ReadToEOF(100)}, []Op{Write(100), Reset()}},
		{"an end instead of a reset", []Op{ReadToReset(100)}, []Op{Write(100), Close()}},
		{"a wrong byte", []Op{ReadToEOF(5)}, []Op{op(func(p *Peer) error {
			_, err := p.conn.Write([]byte("wrong"))
			return err
		}, "write wrong"), Close()}},
		{"the wrong session", []Op{ReadToEOF(100)}, []Op{op(func(p *Peer) error {
			p.out += 1 << 32
			return nil
		}, "swap sessions"), Write(100), Close()}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			backend := Listen(t)
			client := Dial(t, backend.Addr())
			server := backend.Accept(t)
			Pair(client, server)
			server.Must(t, test.server...)
			if err := client.Run(test.client...); err == nil {
				t.Error("the client saw nothing wrong")
			}
		})
	}
}

func TestResets(t *testing.T) {
	backend := Listen(t)
	client := Dial(t, backend.Addr())
	server := backend.Accept(t)
	server.Must(t, WritePaced(100, 40, time.Millisecond), Acked(), Reset())
	client.Must(t, ReadToReset(100), WriteToReset())
}

func TestWriteUntilStalled(t *testing.T) {
	backend := ListenOn(t, netip.AddrPort{}, Socket{RcvBuf: 8 << 10}, nil)
	client := DialFrom(t, backend.Addr(), Socket{SndBuf: 8 << 10})
	server := backend.Accept(t)
	client.Must(t, WriteUntilStalled(8<<20, 50*time.Millisecond), HalfClose())
	if client.Sent() > 512<<10 {
		t.Errorf("%d bytes went into buffers of 8 KiB", client.Sent())
	}
	server.Must(t, ReadToEOF(client.Sent()))
}

func TestSilentAddr(t *testing.T) {
	conn, err := net.DialTimeout("tcp", SilentAddr(t).String(), 100*time.Millisecond)
	if err == nil {
		conn.Close()
	}
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("connect: %v, want a timeout", err)
	}
}

func TestSpawn(t *testing.T) {
	child := Spawn(t, "doubler")
	for n := range 10 {
		var got int
		child.Tell(t, n)
		child.Hear(t, &got)
		if got != 2*n {
			t.Fatalf("child said %d, want %d", got, 2*n)
		}
	}
	if CPUOf(t, child.PID()) > 5*time.Second {
		t.Error("CPUOf is absurd")
	}
}

func TestSpawnIsolated(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:2000")
	if err == nil { // if not, somebody else has it: just as good
		defer taken.Close()
	}
	var got string
	SpawnIsolated(t, "loner").Hear(t, &got)
	if got != "alive" {
		t.Errorf("child said %q", got)
	}
}

func TestListening(t *testing.T) {
	for _, addr := range []netip.AddrPort{FreeAddr(t), FreeAddr6(t)} {
		if Listening(t, addr) {
			t.Errorf("%v: listening before", addr)
		}
		backend := ListenOn(t, addr, Socket{}, nil)
		Dial(t, addr) // its socket has the same local address and does not count
		if !Listening(t, addr) {
			t.Errorf("%v: not listening", addr)
		}
		backend.Stop()
		Eventually(t, "it does not listen", func() bool { return !Listening(t, addr) })
	}
}

func TestRejected(t *testing.T) {
	resets := Serve(t, func(p *Peer) { _ = p.Reset() })
	for range 20 {
		if err := Rejected(resets.Addr(), Socket{}); err != nil {
			t.Error(err)
		}
	}
	if Rejected(Serve(t, Say("hello")).Addr(), Socket{}) == nil || Rejected(Serve(t, Say("")).Addr(), Socket{}) == nil {
		t.Error("a server that answers or ends counts as one that resets")
	}
}

// TestIsolated: the run has a network of its own, and its loopback works.
func TestIsolated(t *testing.T) {
	switch os.Getenv(isolatedVariable) {
	case isolated:
	case notIsolated:
		t.Skip("no network namespaces here")
	default:
		t.Fatalf("%s is %q", isolatedVariable, os.Getenv(isolatedVariable))
	}
	if all, err := net.Interfaces(); err != nil || len(all) != 1 || all[0].Name != "lo" {
		t.Errorf("interfaces %v, %v; want lo alone", all, err)
	}
	for _, addr := range []netip.AddrPort{FreeAddr(t), FreeAddr6(t)} {
		if got, err := Ask(ListenOn(t, addr, Socket{}, Say("here")).Addr()); got != "here" {
			t.Errorf("%v answers %q, %v", addr, got, err)
		}
	}
}
