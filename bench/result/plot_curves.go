package result

import (
	"cmp"
	"fmt"
	"image/color"
	"math"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
)

// latencies draws latency over percentiles, the axis stretched towards the
// slowest ones: each step to the right is ten times as rare.
func (f *File) latencies() (*plot.Plot, error) {
	row := f.Row("openloop")
	title := "Latency at half of the slowest peer's capacity"
	if row == nil || len(row.Curves) == 0 {
		row, title = f.Row("rr64"), "Latency, 64 connections"
	}
	if row == nil || len(row.Curves) == 0 {
		return nil, nil
	}
	p := newPlot(title, "milliseconds")
	p.X.Label.Text = "percentile of requests"
	p.X.Tick.Marker = rareTicks{}
	p.X.Min, p.X.Max = 0, 4
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plainLogTicks{}
	p.Add(grid())
	for _, peer := range order {
		var xys plotter.XYs
		for _, point := range row.Curves[peer] {
			if point.Percentile == 0 {
				continue // the fastest of all says little and stretches the axis
			}
			if x := rarity(point.Percentile); x <= p.X.Max {
				xys = append(xys, plotter.XY{X: x, Y: max(point.Micros, 1) / 1e3})
			}
		}
		if err := curve(p, peer, colors[peer], xys); err != nil {
			return nil, err
		}
	}
	p.Legend.Left = true
	return p, nil
}

// rarity is how many nines a percentile has: 90 is 1, 99 is 2.
func rarity(percentile float64) float64 {
	if percentile >= 100 {
		return math.Inf(1)
	}
	return -math.Log10(1 - percentile/100)
}

// rareTicks marks the axis of latencies.
type rareTicks struct{}

func (rareTicks) Ticks(_, most float64) []plot.Tick {
	var ticks []plot.Tick
	for _, p := range []float64{0, 50, 75, 90, 95, 99, 99.9, 99.99} {
		if x := rarity(p); x <= most+1e-9 {
			ticks = append(ticks, plot.Tick{Value: x, Label: fmt.Sprintf("%g", p)})
		}
	}
	return ticks
}

// plainLogTicks marks 1, 2, 5, 10 … without exponents.
type plainLogTicks struct{}

func (plainLogTicks) Ticks(least, most float64) []plot.Tick {
	var ticks []plot.Tick
	for decade := math.Pow(10, math.Floor(math.Log10(least))); decade <= most; decade *= 10 {
		for _, step := range []float64{1, 2, 5} {
			if v := decade * step; v >= least && v <= most {
				ticks = append(ticks, plot.Tick{Value: v, Label: fmt.Sprintf("%.4g", v)})
			}
		}
	}
	return ticks
}

// registrations draws how many of the registered ports served, and of the
// deregistered ones were closed, after how long.
func (f *File) registrations() (*plot.Plot, error) {
	p := newPlot("From a change in Consul to the port", "% of ports")
	p.X.Label.Text = "milliseconds after Consul's answer"
	p.Add(grid())
	some := false
	for i, n := range []int{0, 300, 2000} {
		row := f.Row(fmt.Sprintf("register%d", n))
		if row == nil {
			continue
		}
		for _, what := range []struct {
			curve, label string
			color        color.RGBA
			dashed       bool
		}{
			{"open", "open", colors["dill"], false},
			{"close", "closed", colors["haproxy"], true},
		} {
			var xys plotter.XYs
			for _, point := range row.Curves[what.curve] {
				xys = append(xys, plotter.XY{X: point.Micros / 1e3, Y: point.Percentile})
			}
			if len(xys) == 0 {
				continue
			}
			some = true
			shade := what.color
			shade.A = []uint8{0x55, 0x99, 0xff}[i]
			if err := curve(p, fmt.Sprintf("%s, %d other services", what.label, n), color.NRGBA(shade), xys); err != nil {
				return nil, err
			}
		}
	}
	if !some {
		return nil, nil
	}
	p.X.Min, p.Y.Min, p.Y.Max = 0, 0, 101
	p.Legend.Top = false
	return p, nil
}

// sizes draws how much of the machine's own throughput is left through dill,
// for each size of messages.
func (f *File) sizes() (*plot.Plot, error) {
	type point struct{ size, direct, dill float64 }
	var points []point
	for i := range f.Rows {
		var n float64
		var unit string
		if c, _ := fmt.Sscanf(f.Rows[i].Scenario, "size%f%s", &n, &unit); c == 0 {
			continue
		}
		n *= map[string]float64{"": 1, "K": 1 << 10, "M": 1 << 20}[unit]
		m := f.Rows[i].Medians
		points = append(points, point{n, m["direct"][Rate].Median, m["dill"][Rate].Median})
	}
	if len(points) < 2 {
		return nil, nil
	}
	slices.SortFunc(points, func(a, b point) int { return cmp.Compare(a.size, b.size) })
	p := newPlot("Messages of all sizes, 8 connections", "MB/s, both directions")
	p.X.Label.Text = "bytes of a message"
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, sizeTicks{}
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plainLogTicks{}
	p.Add(grid())
	for _, peer := range []string{"direct", "dill"} {
		var xys plotter.XYs
		for _, at := range points {
			rate := at.direct
			if peer == "dill" {
				rate = at.dill
			}
			if rate > 0 {
				xys = append(xys, plotter.XY{X: at.size, Y: rate * 2 * at.size / 1e6})
			}
		}
		if err := curve(p, peer, colors[peer], xys); err != nil {
			return nil, err
		}
	}
	p.Legend.Left = true
	return p, nil
}

// sizeTicks marks powers of four.
type sizeTicks struct{}

func (sizeTicks) Ticks(least, most float64) []plot.Tick {
	var ticks []plot.Tick
	for v := 64.0; v <= 1<<20; v *= 4 {
		if v < least || v > most {
			continue
		}
		label := fmt.Sprintf("%.0f", v)
		if v >= 1<<20 {
			label = fmt.Sprintf("%.0fM", v/(1<<20))
		} else if v >= 1<<10 {
			label = fmt.Sprintf("%.0fK", v/(1<<10))
		}
		ticks = append(ticks, plot.Tick{Value: v, Label: label})
	}
	return ticks
}

// curve adds a line to p; nothing if it has no points.
func curve(p *plot.Plot, label string, c color.Color, xys plotter.XYs) error {
	if len(xys) == 0 {
		return nil
	}
	line, err := plotter.NewLine(xys)
	if err != nil {
		return err
	}
	line.Color, line.Width = c, vg.Points(1.4)
	if c == color.Color(colors["dill"]) {
		line.Width = vg.Points(2.4)
	}
	p.Add(line)
	p.Legend.Add(label, line)
	return nil
}

func grid() *plotter.Grid {
	g := plotter.NewGrid()
	g.Vertical.Color, g.Horizontal.Color = faint, faint
	return g
}
