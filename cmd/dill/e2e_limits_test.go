package main

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"dill/controlplane/config"
	"dill/dataplane/dptest"
)

func TestListenerLimit(t *testing.T) {
	for _, tt := range []struct {
		limit     int
		openFiles uint64
		loops     int
		want      int
	}{
		{config.Auto, 20_000, 2, 4936},
		{config.Auto, 1024, 2, 192},
		{config.Auto, 64, 4, 6},
		{config.Auto, 4, 64, 1},
		{config.Auto, math.MaxUint64, 1, (math.MaxInt32 - 256) / 2},
		{0, 1024, 2, 0},
		{7, 1024, 2, 7},
	} {
		if got := listenerLimit(tt.limit, tt.openFiles, tt.loops); got != tt.want {
			t.Errorf("%d with %d files and %d loops: %d, want %d", tt.limit, tt.openFiles, tt.loops, got, tt.want)
		}
	}
}

// A service that asks for more ports than it may have gets the lowest of them,
// and takes none from anybody; what is open already stays.
func TestGreedyServiceHasItsLimit(t *testing.T) {
	t.Parallel()
	path := newRoutes(t).path
	greedy, honest := saying(t, "greedy"), saying(t, "honest")
	var all []netip.AddrPort
	for range 30 {
		all = append(all, freeAddr(t))
	}
	slices.SortFunc(all, netip.AddrPort.Compare)
	document := func(ports []netip.AddrPort, more string) {
		var labels []string
		for _, p := range ports {
			labels = append(labels, fmt.Sprintf("local:%d", p.Port()))
		}
		replace(t, path, fmt.Sprintf("services:\n- {name: greedy, listener: [%s], backends: [%v]}\n%s", strings.Join(labels, ", "), greedy.Addr(), more))
	}
	document(all[2:], "")
	r := launch(t, fmt.Sprintf("file.path = %q\nlisteners.max_per_service = 20\nlisteners.max = 21\n", path))
	served := func() {
		t.Helper()
		for _, addr := range all[2:22] {
			r.answers(addr, "greedy")
		}
		for _, addr := range all[22:] {
			r.closed(addr)
		}
	}
	served()
	r.peekSays(fmt.Sprintf(`\nrefused\n├ file/greedy \S* ?dill.listener=local:%d: above the limit of 20 ports for one service \(listeners.max_per_service\)\n`, all[22].Port()))

	one, other := freeAddr(t), freeAddr(t)
	if other.Port() < one.Port() {
		one, other = other, one
	}
	late := "- {name: %s, listener: 'local:%d', backends: [%v]}\n"
	document(all, fmt.Sprintf(late, "one", one.Port(), honest.Addr())+fmt.Sprintf(late, "other", other.Port(), honest.Addr()))
	r.answers(one, "honest")
	r.peekSays(fmt.Sprintf(`file/other \S* ?dill.listener=local:%d: above the limit of 21 ports in all \(listeners.max\)\n`, other.Port()))
	served()
	for _, addr := range all[:2] { // lower, and late
		if _, err := dptest.Ask(addr); err == nil {
			t.Errorf("%v is served, too", addr)
		}
	}
}
