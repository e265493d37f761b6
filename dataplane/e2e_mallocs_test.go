//go:build !race

package dataplane_test

import (
	"net/netip"
	"runtime"
	"testing"

	"dill/dataplane"
	. "dill/dataplane/dptest"
)

// TestMallocs: fewer than 100 heap objects over 100,000 relayed messages, and
// over 20,000 connections that are accepted, relayed and closed. The peers are
// in another process: what is counted is the engine's, and the few that this
// test makes by waiting.
func TestMallocs(t *testing.T) {
	tests := []struct {
		name string
		warm loadTask
		task loadTask
	}{
		{"messages",
			loadTask{Do: "messages", N: 10_000, Size: 100},
			loadTask{Do: "messages", N: 100_000, Size: 100}},
		{"spliced messages",
			loadTask{Do: "messages", N: 1000, Size: 256 << 10},
			loadTask{Do: "messages", N: 4000, Size: 256 << 10}},
		{"connections",
			loadTask{Do: "connections", N: 2000, Size: 100},
			loadTask{Do: "connections", N: 20_000, Size: 100}},
	}
	backend := FreeAddr(t)
	r := start(t, setup{backends: -1, dead: []netip.AddrPort{backend}})
	load := Spawn(t, "load") // after the rig, so that it ends first
	do(t, load, loadTask{Do: "echo", Addr: backend})
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.warm.Addr, test.task.Addr = r.front, r.front
			do(t, load, test.warm)
			fewMallocs(t, load, test.task)
		})
	}
}

// TestMallocsOfFloods: clients that are refused, and clients that reset while
// dill connects, cost nothing either: they may come in floods.
func TestMallocsOfFloods(t *testing.T) {
	t.Run("refusals", func(t *testing.T) {
		const most = 300 // a report of a number below 256 would not show
		r := start(t, setup{cfg: dataplane.Config{MaxConnections: most}})
		for range most {
			r.open(t)
		}
		load := Spawn(t, "load")
		do(t, load, loadTask{Do: "refusals", Addr: r.front, N: 500})
		counted := since("refused_limit")
		fewMallocs(t, load, loadTask{Do: "refusals", Addr: r.front, N: 10_000})
		if counted() < 10_000*9/10 { // package net resets now and then itself
			t.Errorf("only %d were refused", counted())
		}
	})
	t.Run("dead backend", func(t *testing.T) {
		r := start(t, setup{backends: -1, dead: []netip.AddrPort{FreeAddr(t)}})
		load := Spawn(t, "load")
		do(t, load, loadTask{Do: "refusals", Addr: r.front, N: 500})
		counted := since("connect_failed")
		fewMallocs(t, load, loadTask{Do: "refusals", Addr: r.front, N: 10_000})
		if counted() < 10_000*9/10 {
			t.Errorf("only %d connects failed", counted())
		}
	})
	t.Run("aborts", func(t *testing.T) {
		r := start(t, setup{backends: -1, dead: []netip.AddrPort{SilentAddr(t)}})
		load := Spawn(t, "load")
		do(t, load, loadTask{Do: "aborts", Addr: r.front, N: 1000})
		counted := since("client_gone")
		fewMallocs(t, load, loadTask{Do: "aborts", Addr: r.front, N: 10_000})
		if counted() < 1000 { // of most the reset is there before dill accepts
			t.Errorf("only %d left during the connect", counted())
		}
	})
}

// TestAllocsOfTheQuestionForARoute: to ask the kernel where a backend is costs no
// heap object, whatever it says.
func TestAllocsOfTheQuestionForARoute(t *testing.T) {
	r := start(t, setup{})
	port := FreeAddr(t).Port()
	r.publish(t, serving(netip.AddrPortFrom(netip.IPv4Unspecified(), port)), serving(netip.AddrPortFrom(netip.IPv6Unspecified(), port)))
	for host, want := range map[string]bool{"127.0.0.1": true, "192.0.2.1": false, "0.0.0.0": true, "::1": true, "::": true, "2001:db8::1": false} {
		is, allocs := r.engine.LeadsBack(netip.AddrPortFrom(netip.MustParseAddr(host), port), 1000)
		if is != want || allocs != 0 {
			t.Errorf("%s: %v with %v heap objects, want %v with none", host, is, allocs, want)
		}
	}
	if is, _ := r.engine.LeadsBack(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port+1), 1); is {
		t.Error("another port leads back")
	}
}

// fewMallocs checks that the engine makes fewer than 100 heap objects over a
// task.
func fewMallocs(t *testing.T, load *Child, task loadTask) {
	t.Helper()
	const most = 100
	// The runtime counts small objects when it needs more room for their size: a
	// collection in the midst of the task would bring what was made before.
	runtime.GC()
	before := dataplane.Stats()
	do(t, load, task)
	after := dataplane.Stats()
	n := after.Mallocs - before.Mallocs
	t.Logf("%d mallocs, %d collections, %d bytes spliced", n, after.GCCycles-before.GCCycles,
		after.Get("spliced_bytes")-before.Get("spliced_bytes"))
	if n >= most {
		t.Errorf("%d mallocs over %d %s, want fewer than %d", n, task.N, task.Do, most)
	}
}
