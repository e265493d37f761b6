package consul

import (
	"math"
	"slices"
)

// check is what of a check tells whether anything but its output changed.
type check struct {
	Node        string
	CheckID     string
	Status      string
	ServiceID   string
	ServiceName string // "" for a check of the node
	ServiceTags []string
	CreateIndex uint64
	ModifyIndex uint64
}

type checkKey struct{ node, id string }

// hint is what to look at again: the latest index at which something changed,
// by the names of services and of nodes. A check that is gone has no index;
// always stands for it.
type hint struct {
	services map[string]uint64
	nodes    map[string]uint64
}

const always = math.MaxUint64

// ledger is all checks as they were last seen.
type ledger map[checkKey]check

// update replaces what the ledger knew and returns what changed meanwhile.
func (l *ledger) update(checks []check) hint {
	h := hint{make(map[string]uint64), make(map[string]uint64)}
	next := make(ledger, len(checks))
	for _, c := range checks {
		k := checkKey{c.Node, c.CheckID}
		next[k] = c
		old, known := (*l)[k]
		if !known || !c.alike(old) {
			h.note(c, c.ModifyIndex)
		}
		if known && old.ServiceName != c.ServiceName {
			h.note(old, always)
		}
	}
	for k, old := range *l {
		if _, still := next[k]; !still {
			h.note(old, always)
		}
	}
	*l = next
	return h
}

func (h hint) note(c check, index uint64) {
	if c.ServiceName != "" {
		h.services[c.ServiceName] = max(h.services[c.ServiceName], index)
	} else {
		h.nodes[c.Node] = max(h.nodes[c.Node], index)
	}
}

// alike tells whether c and an earlier state of it differ in nothing that
// could be passed on. The index alone would not do: it moves with the output.
func (c check) alike(old check) bool {
	return c.Status == old.Status && c.CreateIndex == old.CreateIndex &&
		c.ServiceID == old.ServiceID && c.ServiceName == old.ServiceName && slices.Equal(c.ServiceTags, old.ServiceTags)
}
