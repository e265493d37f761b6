package result

import (
	"fmt"
	"image/color"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// group is a scenario in a bar chart, and what to call it there.
type group struct{ scenario, label string }

var (
	bulkRows = []group{
		{"bulk1", "1 stream, up"}, {"bulk1down", "1 stream, down"},
		{"bulk8", "8 streams, up"}, {"bulk8down", "8 streams, down"},
	}
	requestRows = []group{
		{"rr1", "1 connection"}, {"rr64", "64 connections"}, {"rr512", "512 connections"}, {"conn", "new connections"},
	}

	// order is that of the bars and of the legend.
	order = []string{"direct", "dill", "haproxy", "nginx", "go"}
)

// bars draws the medians of a metric, divided by unit, with the quartiles as a
// thin line. It is nil if there are none.
func (f *File) bars(title, y, metric string, unit float64, groups []group) (*plot.Plot, error) {
	groups = slices.DeleteFunc(slices.Clone(groups), func(g group) bool { return !f.has(g.scenario, metric) })
	peers := slices.DeleteFunc(slices.Clone(order), func(peer string) bool {
		return !slices.ContainsFunc(groups, func(g group) bool { _, ok := f.Row(g.scenario).Medians[peer][metric]; return ok })
	})
	if len(groups) == 0 {
		return nil, nil
	}
	p := newPlot(title, y)
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = color.Transparent, faint
	p.Add(grid)
	const axis = width - 4*vg.Centimeter // about what is left beside labels and margins
	each := axis / (vg.Length(len(groups)) * (vg.Length(len(peers)) + 0.8))
	var names []string
	for _, g := range groups {
		names = append(names, g.label)
	}
	for i, peer := range peers {
		offset := (vg.Length(i) - vg.Length(len(peers)-1)/2) * each
		var values plotter.Values
		var labels plotter.XYLabels
		for x, g := range groups {
			s := f.Row(g.scenario).Medians[peer][metric]
			values = append(values, s.Median/unit)
			if s.N > 0 {
				labels.XYs = append(labels.XYs, plotter.XY{X: float64(x), Y: s.Median / unit})
				labels.Labels = append(labels.Labels, digits(s.Median/unit))
			}
		}
		chart, err := plotter.NewBarChart(values, each*0.92)
		if err != nil {
			return nil, err
		}
		chart.Color, chart.LineStyle.Width, chart.Offset = colors[peer], 0, offset
		p.Add(chart)
		p.Legend.Add(peer, chart)
		over, err := plotter.NewLabels(labels)
		if err != nil {
			return nil, err
		}
		over.Offset = vg.Point{X: offset, Y: 2}
		for j := range over.TextStyle {
			over.TextStyle[j] = style(7.5)
			over.TextStyle[j].XAlign, over.TextStyle[j].YAlign = draw.XCenter, draw.YBottom
		}
		p.Add(over)
	}
	p.NominalX(names...)
	p.X.Min, p.X.Max = -0.5, float64(len(groups))-0.5
	p.X.LineStyle.Width = 0
	p.Y.Min = 0
	p.Y.Max *= 1.15 // for the legend
	p.Legend.YOffs = 4 * vg.Millimeter
	return p, nil
}

// has tells whether a metric was measured in a scenario.
func (f *File) has(scenario, metric string) bool {
	row := f.Row(scenario)
	if row == nil {
		return false
	}
	for _, medians := range row.Medians {
		if _, ok := medians[metric]; ok {
			return true
		}
	}
	return false
}

// digits writes v with about three of them.
func digits(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
