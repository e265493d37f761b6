package scenario

import (
	"fmt"
	"slices"
	"strings"
)

// All returns every scenario, in the order in which they run.
func All() []Scenario {
	return []Scenario{
		bulk("bulk1", 1, false, false),
		bulk("bulk1down", 1, true, false),
		bulk("bulk8", 8, false, false),
		bulk("bulk8down", 8, true, false),
		bulk("bulk1user", 1, false, unprivileged),
		bulk("bulk8user", 8, false, unprivileged),
		requests("rr1", 1, 64),
		requests("rr64", 64, 64),
		requests("rr512", 512, 64),
		connects("conn", 16),
	}
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
