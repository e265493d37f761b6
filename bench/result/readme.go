package result

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"dill/bench/stat"
)

// The README beside package bench has the results between these two lines.
const (
	ReadmeBegin = "<!-- bench -->"
	ReadmeEnd   = "<!-- /bench -->"
)

// Readme puts f's results, and the plots that lie in dir, between the markers
// in the file at path.
func (f *File) Readme(path, dir string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	head, rest, ok := strings.Cut(string(text), ReadmeBegin)
	_, tail, ok2 := strings.Cut(rest, ReadmeEnd)
	if !ok || !ok2 {
		return fmt.Errorf("%s: want the lines %q and %q around the results", path, ReadmeBegin, ReadmeEnd)
	}
	from, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return err
	}
	to, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	plots, err := filepath.Rel(from, to)
	if err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString(head + ReadmeBegin + "\n")
	f.markdown(&b, dir, filepath.ToSlash(plots))
	b.WriteString(ReadmeEnd + tail)
	part := path + ".part"
	if err := os.WriteFile(part, []byte(b.String()), 0o644); err != nil {
		return err
	}
	return os.Rename(part, path)
}

// markdown writes date and place, the comparison, the targets and the plots,
// which lie in dir and are linked to below link.
func (f *File) markdown(b *strings.Builder, dir, link string) {
	var versions []string
	for _, p := range f.Peers {
		if p.Name != direct && p.Name != "dill" {
			versions = append(versions, p.Version)
		}
	}
	fmt.Fprintf(b, "\nMeasured on %s with dill %s beside %s; %s. Medians of up to %d rounds of %s each, twice as many where a target was in doubt.",
		f.Began.Format("2 January 2006"), f.Dill, strings.Join(versions, ", "), f.Machine, f.Settings.Pairs, f.Settings.Duration)
	if f.Source == "consul" {
		fmt.Fprintf(b, " dill got its services from %s.", f.Consul)
	}
	if text := f.headroom(); text != "" {
		b.WriteString(" " + text)
	}
	b.WriteString("\n\n")
	f.markdownPeers(b)
	b.WriteString("\n| target | wanted | measured (quartiles) | |\n|---|---|---|---|\n")
	for _, t := range f.Targets {
		if t.Verdict == stat.Unknown {
			fmt.Fprintf(b, "| %s | %s | – | not measured |\n", t.What, t.Wanted)
			continue
		}
		fmt.Fprintf(b, "| %s | %s | %s (%s–%s) | %s |\n", t.What, t.Wanted, t.Shown(t.Got.Median), t.Shown(t.Got.Q1), t.Shown(t.Got.Q3), t.Verdict)
	}
	b.WriteString("\n")
	for _, name := range Plots {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			fmt.Fprintf(b, "![%s](%s/%s)\n", strings.TrimSuffix(name, ".png"), link, name)
		}
	}
	b.WriteString("\n")
}

// markdownPeers writes the peers side by side, one line a scenario.
func (f *File) markdownPeers(b *strings.Builder) {
	b.WriteString("| |")
	for _, peer := range order {
		fmt.Fprintf(b, " %s |", peer)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(order)) + "\n")
	for i := range f.Rows {
		row := &f.Rows[i]
		if len(row.Show) == 0 || row.Medians["haproxy"] == nil && row.Medians["nginx"] == nil && row.Medians["go"] == nil {
			continue
		}
		m := MetricNamed(row.Show[0])
		fmt.Fprintf(b, "| %s, %s |", row.Title, m.Label)
		for _, peer := range order {
			s, ok := row.Medians[peer][m.Name]
			if !ok {
				b.WriteString(" – |")
				continue
			}
			text := m.Format(s.Median)
			if peer == "dill" {
				text = "**" + text + "**"
			}
			fmt.Fprintf(b, " %s |", text)
		}
		b.WriteString("\n")
	}
}
