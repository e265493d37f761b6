package compile

import (
	"cmp"
	"slices"
	"strings"

	"dill/dataplane/route"
)

// maxRefusals bounds what one service can say in Peek.
const maxRefusals = 32

// note is a Refusal of a service before instances with the same trouble are
// put together.
type note struct {
	instance string // as it came; "" = the service
	fault
}

func (s *service) note(instance, claim, reason string) {
	s.notes = append(s.notes, note{instance, fault{claim, reason}})
}

// refusals puts the notes of s into their final form, unless they are those of
// the last time.
func (s *service) refusals() []route.Refusal {
	if !slices.Equal(s.notes, s.said) {
		s.said = slices.Clone(s.notes)
		s.refused = s.refuse(slices.Clone(s.notes))
	}
	return s.refused
}

// refuse makes refusals of notes, which it sorts. What holds for all of several
// instances is said once.
func (s *service) refuse(notes []note) []route.Refusal {
	slices.SortFunc(notes, func(a, b note) int {
		return cmp.Or(strings.Compare(a.claim, b.claim), strings.Compare(a.reason, b.reason),
			strings.Compare(a.instance, b.instance))
	})
	notes = slices.Compact(notes)
	var out []route.Refusal
	more := 0
	for len(notes) > 0 {
		same := 1
		for same < len(notes) && notes[same].fault == notes[0].fault {
			same++
		}
		run := notes[:same]
		notes = notes[same:]
		if same > 1 && same == len(s.instances) {
			run = []note{{"", run[0].fault}}
		}
		for _, n := range run {
			if len(out) == maxRefusals-1 && (len(notes) > 0 || len(run) > 1) {
				more++
				continue
			}
			out = append(out, route.Refusal{
				Service: show(s.owner), Instance: show(n.instance), Claim: n.claim, Reason: n.reason,
			})
		}
	}
	if more > 0 {
		out = append(out, route.Refusal{Service: show(s.owner), Reason: reason("%d more of the kind", more)})
	}
	return out
}
