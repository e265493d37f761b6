package result

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"dill/bench/stat"
)

// PrintTitle heads a scenario.
func PrintTitle(w io.Writer, name, title string) {
	fmt.Fprintf(w, "\n%s – %s\n", name, title)
}

// PrintTurn tells of one turn as it ends.
func PrintTurn(w io.Writer, round int, peer string, show []string, values map[string]float64, left time.Duration) {
	fmt.Fprintf(w, "  %2d %-8s", round+1, peer)
	for _, name := range show[:min(len(show), 3)] {
		if v, ok := values[name]; ok {
			m := MetricNamed(name)
			fmt.Fprintf(w, "  %s %s", m.Format(v), strings.TrimPrefix(m.Label, "per second"))
		}
	}
	fmt.Fprintf(w, "    %v left\n", left)
}

// PrintRow writes a scenario's table: the medians of each peer, and beside them
// the ratio of subject's first metric to the peer's with its quartiles.
func PrintRow(w io.Writer, r *Row, subject string) {
	if r.Error != "" {
		fmt.Fprintf(w, "  FAILED: %s\n", r.Error)
	}
	if r.Skipped != "" {
		fmt.Fprintf(w, "  skipped: %s\n", r.Skipped)
	}
	if len(r.Samples) == 0 {
		return
	}
	show := slices.DeleteFunc(slices.Clone(r.Show), func(name string) bool {
		for _, medians := range r.Medians {
			if _, ok := medians[name]; ok {
				return false
			}
		}
		return true
	})
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "  \t")
	for _, name := range show {
		fmt.Fprintf(t, "%s\t", MetricNamed(name).Label)
	}
	fmt.Fprintf(t, "%s ÷ it\tquartiles\t\n", subject)
	for _, peer := range r.Peers() {
		fmt.Fprintf(t, "  %s\t", peer)
		for _, name := range show {
			if s, ok := r.Medians[peer][name]; ok {
				fmt.Fprintf(t, "%s\t", MetricNamed(name).Format(s.Median))
			} else {
				fmt.Fprint(t, "–\t")
			}
		}
		if s, ok := r.Ratios[peer][show[0]]; ok {
			fmt.Fprintf(t, "%.2f\t%.2f–%.2f\t\n", s.Median, s.Q1, s.Q3)
		} else {
			fmt.Fprint(t, "\t\t\n")
		}
	}
	t.Flush()
}

// PrintTargets writes every target with what was measured and the verdict, and
// what speaks against believing it.
func PrintTargets(w io.Writer, f *File) {
	fmt.Fprintln(w, "\nTargets")
	unknown := 0
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, target := range f.Targets {
		if target.Verdict == stat.Unknown {
			unknown++
			continue
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\t(%s to %s, %d rounds)\t%s\n", target.What, target.Wanted,
			target.Shown(target.Got.Median), target.Shown(target.Got.Q1), target.Shown(target.Got.Q3), target.Got.N, target.Verdict)
	}
	t.Flush()
	if unknown > 0 {
		fmt.Fprintf(w, "  %d more were not measured.\n", unknown)
	}
	if text := f.headroom(); text != "" {
		fmt.Fprintln(w, " ", text)
	}
	if f.Quick {
		fmt.Fprintln(w, "  This was a quick look: that everything works is all it says.")
	}
	if f.Busy() {
		fmt.Fprintf(w, "  The machine was busy with something else when this began (load %.1f): repeat it on a quiet one.\n", f.Load)
	}
	for _, m := range f.Missing {
		fmt.Fprintln(w, "  NOT compared:", m)
	}
}
