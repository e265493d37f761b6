package result

import (
	"fmt"
	"io"
	"math"
	"text/tabwriter"

	"dill/bench/stat"
)

// same is how much a median may move without being called a change, where the
// quartiles do not say more: the least that such measurements can tell.
const same = 0.03

// change is what became of one metric of one peer from one run to the next.
type change struct {
	scenario, peer string
	metric         Metric
	old, new       stat.Summary
}

// ratio is the new median by the old.
func (c change) ratio() float64 { return c.new.Median / c.old.Median }

// verdict says what the change means: "" for none. It is one when the middle
// halves of the two samples do not overlap and the medians differ by more than
// 3 %.
func (c change) verdict() string {
	if c.old.Median == c.new.Median || c.old.Q1 <= c.new.Q3 && c.new.Q1 <= c.old.Q3 {
		return ""
	}
	if c.old.Median != 0 && math.Abs(c.ratio()-1) <= same {
		return ""
	}
	if (c.new.Median > c.old.Median) == c.metric.More {
		return "better"
	}
	return "WORSE"
}

// changes lists every metric that tables show and both files have.
func changes(a, b *File) []change {
	var all []change
	for i := range b.Rows {
		row := &b.Rows[i]
		before := a.Row(row.Scenario)
		if before == nil {
			continue
		}
		for _, peer := range row.Peers() {
			for _, name := range row.Show {
				was, ok := before.Medians[peer][name]
				is, ok2 := row.Medians[peer][name]
				if ok && ok2 {
					all = append(all, change{row.Scenario, peer, MetricNamed(name), was, is})
				}
			}
		}
	}
	return all
}

// Compare writes what changed from a to b and reports whether subject got
// worse anywhere. Peers that moved, too, are shown beside it: then it may be the
// machine.
func Compare(w io.Writer, a, b *File, subject string) (worse bool) {
	fmt.Fprintf(w, "old  %s  dill %s  %s\nnew  %s  dill %s  %s\n", a.Began.Format("2006-01-02 15:04"), a.Dill, a.Machine,
		b.Began.Format("2006-01-02 15:04"), b.Dill, b.Machine)
	if a.Machine != b.Machine || a.Settings != b.Settings || a.Source != b.Source || a.Quick != b.Quick {
		fmt.Fprintln(w, "These were not measured alike; what differs may be that.")
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nscenario\tpeer\tmetric\told\tnew\tnew ÷ old\t")
	shown := 0
	for _, c := range changes(a, b) {
		verdict := c.verdict()
		if verdict == "" {
			continue
		}
		shown++
		worse = worse || verdict == "WORSE" && c.peer == subject
		ratio := "–"
		if c.old.Median != 0 {
			ratio = fmt.Sprintf("%.2f", c.ratio())
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", c.scenario, c.peer, c.metric.Label,
			c.metric.Format(c.old.Median), c.metric.Format(c.new.Median), ratio, verdict)
	}
	if shown > 0 {
		t.Flush()
	} else {
		fmt.Fprintln(w, "\nNothing moved by more than its spread.")
	}
	return compareTargets(w, a, b) || worse
}

// compareTargets writes the targets whose verdict is another one, and reports
// whether one is no longer met.
func compareTargets(w io.Writer, a, b *File) (lost bool) {
	before := map[string]Target{}
	for _, t := range a.Targets {
		before[t.ID] = t
	}
	for _, t := range b.Targets {
		was, ok := before[t.ID]
		if !ok || was.Verdict == t.Verdict || t.Verdict == stat.Unknown || was.Verdict == stat.Unknown {
			continue
		}
		fmt.Fprintf(w, "target: %s %s was %s, is %s\n", t.What, t.Wanted, was.Verdict, t.Verdict)
		lost = lost || was.Verdict == stat.Met && t.Verdict == stat.NotMet
	}
	return lost
}
