package scenario

import (
	"fmt"
	"slices"
	"strings"

	"dill/bench/load"
)

// All returns every scenario, in the order in which they run.
func All() []Scenario {
	all := []Scenario{
		bulk("bulk1", 1, false, false),
		bulk("bulk1down", 1, true, false),
		bulk("bulk8", 8, false, false),
		bulk("bulk8down", 8, true, false),
		bulk("bulk1user", 1, false, unprivileged),
		bulk("bulk8user", 8, false, unprivileged),
		requests("rr1", 1, 64),
		overFloor(requests("rr16", 16, 64)),
		overFloor(requests("rr64", 64, 64)),
		few(requests("rr512", 512, 64)),
		mixed(8),
		mixed(64),
		connects("conn", 16),
		latency("openloop"),
		idle("idle"),
		listeners(1),
		listeners(100),
		listeners(2000),
		registration(0),
		registration(300),
		registration(2000),
		instances(2000),
		changes(2000),
		publish("publish"),
	}
	for _, bytes := range []int{64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20} {
		all = append(all, size(bytes))
	}
	return append(all,
		procs("procs-rr", "request/response, 64 connections", load.Spec{Kind: load.Requests, Conns: 64, Size: 64}),
		procs("procs-bulk", "bulk, 8 streams", load.Spec{Kind: load.Bulk, Conns: 8}),
	)
}

// overFloor has the floor take part in s.
func overFloor(s Scenario) Scenario {
	s.Floor = true
	return s
}

// few has s measured less often, as no target hangs on it.
func few(s Scenario) Scenario {
	s.Pairs = 3
	return s
}

// Select returns the scenarios that a list such as "bulk1,rr*" names; an empty
// list is all.
func Select(list string) ([]Scenario, error) {
	all := All()
	if list == "" {
		return all, nil
	}
	var chosen []Scenario
	for name := range strings.SplitSeq(list, ",") {
		prefix, star := strings.CutSuffix(strings.TrimSpace(name), "*")
		found := false
		for _, s := range all {
			if s.Name == prefix || star && strings.HasPrefix(s.Name, prefix) {
				found = true
				if !slices.ContainsFunc(chosen, func(c Scenario) bool { return c.Name == s.Name }) {
					chosen = append(chosen, s)
				}
			}
		}
		if !found {
			var names []string
			for _, s := range all {
				names = append(names, s.Name)
			}
			return nil, fmt.Errorf("no scenario is called %q; there are: %s", name, strings.Join(names, " "))
		}
	}
	return chosen, nil
}
