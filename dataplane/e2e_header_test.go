package dataplane_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"testing"

	"dill/dataplane"
	. "dill/dataplane/dptest"
	"dill/dataplane/route"
)

// proxyHeader is the header of the PROXY protocol for a connection, spelled
// out here from its specification.
func proxyHeader(version uint8, from, to netip.AddrPort) []byte {
	if version == 1 {
		family := "TCP4"
		if from.Addr().Is6() {
			family = "TCP6"
		}
		return fmt.Appendf(nil, "PROXY %s %s %s %d %d\r\n", family, from.Addr(), to.Addr(), from.Port(), to.Port())
	}
	b := []byte("\r\n\r\n\x00\r\nQUIT\n\x21")
	if from.Addr().Is6() {
		b = append(b, 0x21, 0, 36)
	} else {
		b = append(b, 0x11, 0, 12)
	}
	b = append(b, from.Addr().AsSlice()...)
	b = append(b, to.Addr().AsSlice()...)
	b = binary.BigEndian.AppendUint16(b, from.Port())
	return binary.BigEndian.AppendUint16(b, to.Port())
}

// expectHeader reads exactly the header from a server's side.
func expectHeader(t *testing.T, server *Peer, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(server.Conn(), got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("header %q, %v; want %q", got, err, want)
	}
}

// TestProxyProtocol: the backend gets the header with the client's and the
// listener's address, before anything else, and the stream behind it is whole.
func TestProxyProtocol(t *testing.T) {
	const n = 2 << 20
	scripts := []script{
		{"client speaks first",
			[]Op{Write(n), HalfClose(), ReadToEOF(n), Close()},
			[]Op{ReadToEOF(n), Write(n), Close()}},
		{"server speaks first",
			[]Op{ReadToEOF(n), Write(n), Close()},
			[]Op{Write(n), HalfClose(), ReadToEOF(n), Close()}},
		{"client says nothing",
			[]Op{HalfClose(), ReadToEOF(10), Close()},
			[]Op{ReadToEOF(0), Write(10), Close()}},
		{"client resets",
			[]Op{Write(100), Acked(), Reset()},
			[]Op{ReadToReset(100)}},
	}
	for _, version := range []uint8{1, 2} {
		for family, free := range map[string]func(testing.TB) netip.AddrPort{"IPv4": FreeAddr, "IPv6": FreeAddr6} {
			for mode, splice := range modes {
				t.Run(fmt.Sprintf("v%d %s %s", version, family, mode), func(t *testing.T) {
					r := start(t, setup{
						cfg:     dataplane.Config{Splice: splice},
						front:   free(t),
						backend: func(b *route.Backend) { b.ProxyProtocol = version },
					})
					for _, s := range scripts {
						t.Run(s.name, func(t *testing.T) {
							client, server := r.open(t)
							expectHeader(t, server, proxyHeader(version, client.Local(), r.front))
							Play(t,
								Role{Name: "client", Peer: client, Ops: s.client},
								Role{Name: "server", Peer: server, Ops: s.server})
						})
					}
				})
			}
		}
	}
}

// TestProxyProtocolAfterFailedTry: the header goes to the backend that took the
// connection, once.
func TestProxyProtocolAfterFailedTry(t *testing.T) {
	r := start(t, setup{cfg: noEject, dead: []netip.AddrPort{FreeAddr(t)}, backend: func(b *route.Backend) { b.ProxyProtocol = 1 }})
	for range 4 {
		client, server := r.open(t)
		expectHeader(t, server, proxyHeader(1, client.Local(), r.front))
		Play(t,
			Role{Name: "client", Peer: client, Ops: []Op{Write(1000), HalfClose(), ReadToEOF(0), Close()}},
			Role{Name: "server", Peer: server, Ops: []Op{ReadToEOF(1000), Close()}})
	}
}
