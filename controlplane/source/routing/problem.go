package routing

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
)

// Problem is one mistake in a document. As an error it says where, what and
// what would be accepted, in one line.
type Problem struct {
	Line    int    // of the entry, 1-based; 0 = unknown
	Entry   int    // index in the list, from 0; -1 = the document itself
	Service string // name of the entry, "" if it has none
	Field   string // "backends[1]", "" for the entry as a whole
	Reason  string
}

func (p Problem) Error() string {
	var b strings.Builder
	if p.Line > 0 {
		fmt.Fprintf(&b, "line %d: ", p.Line)
	}
	if p.Entry >= 0 {
		fmt.Fprintf(&b, "%s[%d]", listKey, p.Entry)
		if p.Service != "" {
			fmt.Fprintf(&b, " %s", quoted(p.Service))
		}
		b.WriteString(": ")
	}
	if p.Field != "" {
		fmt.Fprintf(&b, "%s: ", p.Field)
	}
	b.WriteString(p.Reason)
	return b.String()
}

// where is the line and the field of p, for whoever knows the entry.
func (p Problem) where() string {
	p.Entry, p.Reason = -1, ""
	return p.Error()
}

// logProblems warns of each problem of one document, and of the many beyond
// the first ones by their number alone. Those of an entry are faults of its
// instances, which the compiler's refusals tell.
func logProblems(log *slog.Logger, problems []Problem) {
	const most = 20
	problems = slices.DeleteFunc(slices.Clone(problems), func(p Problem) bool { return p.Entry >= 0 })
	for _, p := range problems[:min(most, len(problems))] {
		log.Warn("mistake in routing document", "err", p)
	}
	if n := len(problems) - most; n > 0 {
		log.Warn("more mistakes in routing document", "dropped", n)
	}
}
