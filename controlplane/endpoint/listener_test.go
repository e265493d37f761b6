package endpoint

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"dill/dataplane/dptest"
)

func TestMain(m *testing.M) { dptest.Main(m, nil) }

// An address that is taken is told once, stays reserved, and is listened on as
// soon as it is free.
func TestTakenAddressIsTriedAgain(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := other.Addr().(*net.TCPAddr).AddrPort()
	var log bytes.Buffer
	l := New("peek.listener", addr, slog.New(slog.NewTextHandler(&log, nil)))
	defer l.Close()
	if l.Bound() || !slices.Equal(l.Reserved(), []netip.AddrPort{addr}) {
		t.Errorf("bound %v, reserved %v", l.Bound(), l.Reserved())
	}
	l.try()
	if text := log.String(); strings.Count(text, "cannot listen") != 1 ||
		!strings.Contains(text, "for=peek.listener err=\"listen tcp "+addr.String()+": bind: address already in use\"") {
		t.Errorf("log of a taken address:\n%s", text)
	}
	_ = other.Close()
	if l.Wait(t.Context()) == nil || !l.Bound() || l.Addr() != addr {
		t.Errorf("bound %v at %v", l.Bound(), l.Addr())
	}
	if text := log.String(); !strings.Contains(text, "msg=listening for=peek.listener addr="+addr.String()) {
		t.Errorf("log of a free address:\n%s", text)
	}
}

func TestWaitEnds(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	l := New("x", other.Addr().(*net.TCPAddr).AddrPort(), slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if ln := l.Wait(ctx); ln != nil {
		t.Error("Wait returns a socket for a taken address")
	}
	l.Close()
	if l.try() {
		t.Error("listens after Close")
	}
}

// One socket of package net serves all addresses of both families.
func TestReservedCoversBothFamilies(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", "[::]:0"} {
		l := New("x", netip.MustParseAddrPort(addr), slog.New(slog.DiscardHandler))
		got, port := l.Reserved(), l.Addr().Port()
		l.Close()
		want := []netip.AddrPort{netip.AddrPortFrom(netip.IPv4Unspecified(), port), netip.AddrPortFrom(netip.IPv6Unspecified(), port)}
		if port == 0 || !slices.Equal(got, want) {
			t.Errorf("%s: Reserved() = %v, want %v", addr, got, want)
		}
	}
}
