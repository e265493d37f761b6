package compile

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"dill/controlplane/source"
)

// greedy claims n ports from first on.
func greedy(name string, index uint64, first, n int) source.Service {
	var claims []string
	for i := range n {
		claims = append(claims, fmt.Sprint("local:", first+n-1-i))
	}
	return asks(name, index, claims...)
}

// ports are those that are served, by owner.
func ports(r Result) map[string][]uint16 {
	m := make(map[string][]uint16)
	for _, l := range r.Listeners {
		m[l.Owner] = append(m[l.Owner], l.Addr.Port())
	}
	for _, p := range m {
		slices.Sort(p)
	}
	return m
}

// bind makes what r serves bound and owned.
func bind(in *Input, r Result) {
	in.Bound, in.Incumbents = nil, make(map[netip.AddrPort]string)
	for _, l := range r.Listeners {
		in.Incumbents[l.Addr] = l.Owner
		if len(l.Backends) > 0 {
			in.Bound = append(in.Bound, l.Addr)
		}
	}
}

// TestPortsOfOneService: the lowest are served, the rest is refused by name, and
// keeps no port from anybody.
func TestPortsOfOneService(t *testing.T) {
	opt := config()
	opt.MaxPerService = 10
	in := Input{Snapshots: []source.Snapshot{consul(greedy("greedy", 1, 5000, 12), asks("honest", 2, "local:5011"))}}
	r := Compile(opt, in)
	if p := ports(r); len(p["consul/greedy"]) != 10 || p["consul/greedy"][9] != 5009 || !slices.Equal(p["consul/honest"], []uint16{5011}) {
		t.Errorf("served %v", p)
	}
	wantRefused(t, r,
		"consul/greedy greedy1|dill.listener=local:5010|above the limit of 10 ports for one service (listeners.max_per_service)",
		"consul/greedy greedy1|dill.listener=local:5011|above the limit of 10 ports for one service (listeners.max_per_service)")

	// What is bound stays, although lower ports are asked for now; and so it does
	// when the limit is lowered.
	bind(&in, r)
	in.Snapshots = []source.Snapshot{consul(greedy("greedy", 1, 4990, 30), asks("honest", 2, "local:5011"))}
	for _, opt.MaxPerService = range []int{10, 5, 1} {
		if got := ports(Compile(opt, in)); fmt.Sprint(got) != fmt.Sprint(ports(r)) {
			t.Errorf("with a limit of %d: served %v", opt.MaxPerService, got)
		}
	}
	opt.MaxPerService = 12
	if p := ports(Compile(opt, in))["consul/greedy"]; len(p) != 12 || p[0] != 4990 || p[1] != 4991 || p[2] != 5000 {
		t.Errorf("with room for two more: %v", p)
	}
	opt.MaxPerService = 0
	if p := ports(Compile(opt, in))["consul/greedy"]; len(p) != 29 { // one is honest's
		t.Errorf("without a limit: %v", p)
	}
}

// TestPortsInAll: the same for all services together. Those that have nothing
// behind them take no room.
func TestPortsInAll(t *testing.T) {
	opt := config()
	opt.MaxListeners = 6
	idle := greedy("idle", 1, 4000, 20)
	idle.Instances[0].Health = source.Critical
	in := Input{Snapshots: []source.Snapshot{consul(greedy("a", 1, 5000, 4), greedy("b", 2, 5004, 4), idle)}}
	r := Compile(opt, in)
	p := ports(r)
	if !slices.Equal(p["consul/a"], []uint16{5000, 5001, 5002, 5003}) || !slices.Equal(p["consul/b"], []uint16{5004, 5005}) || len(p["consul/idle"]) != 20 {
		t.Errorf("served %v", p)
	}
	wantRefused(t, r,
		"consul/b b1|dill.listener=local:5006|above the limit of 6 ports in all (listeners.max)",
		"consul/b b1|dill.listener=local:5007|above the limit of 6 ports in all (listeners.max)")
	if !slices.IsSortedFunc(served(r), func(a, b string) int { return ap(a[:14]).Compare(ap(b[:14])) }) {
		t.Errorf("out of order: %v", served(r))
	}

	bind(&in, r)
	lower := greedy("c", 3, 3000, 3)
	in.Snapshots = append(in.Snapshots, snapshot("file", lower))
	p = ports(Compile(opt, in))
	if len(p["consul/a"]) != 4 || len(p["consul/b"]) != 2 || len(p["file/c"]) != 0 {
		t.Errorf("what was bound is gone: %v", p)
	}
	// One that closes makes room for one.
	in.Snapshots[0].Services[0] = greedy("a", 1, 5000, 3)
	in.Bound = slices.DeleteFunc(in.Bound, func(a netip.AddrPort) bool { return a.Port() == 5003 })
	if p = ports(Compile(opt, in)); len(p["file/c"]) != 1 || p["file/c"][0] != 3000 {
		t.Errorf("served %v", p)
	}
}

// TestLimitsThroughARestart: what dill had before comes first, when nothing is
// bound yet, and counts.
func TestLimitsThroughARestart(t *testing.T) {
	opt := config()
	opt.MaxListeners, opt.MaxPerService = 4, 3
	in := Input{
		Snapshots: []source.Snapshot{consul(greedy("a", 1, 4990, 13), greedy("b", 2, 3000, 3))},
		Reopening: map[netip.AddrPort]string{
			ap("127.0.0.1:5000"): "consul/a", ap("127.0.0.1:5001"): "consul/a",
			ap("127.0.0.1:5002"): "consul/a", ap("127.0.0.1:3001"): "consul/b",
		},
	}
	for range 2 {
		r := Compile(opt, in)
		if p := ports(r); !slices.Equal(p["consul/a"], []uint16{5000, 5001, 5002}) || !slices.Equal(p["consul/b"], []uint16{3001}) {
			t.Errorf("served %v", p)
		}
		bind(&in, r)
		in.Reopening = nil
	}
}
