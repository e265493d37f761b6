package result

import (
	"fmt"
	"image/color"
	"os"
	"path/filepath"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

// Plots are the names of the files that Plot writes, as far as there is
// something to show.
var Plots = []string{"throughput.png", "cpu.png", "requests.png", "latency.png", "registration.png", "sizes.png"}

// Plot writes the plots into dir. A plot for which nothing was measured is
// left out, and removed if an earlier run left it.
func (f *File) Plot(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, name := range Plots {
		var p *plot.Plot
		var err error
		switch name {
		case "throughput.png":
			p, err = f.bars("Bulk throughput", "GB/s, more is better", Throughput, 1e9, bulkRows)
		case "cpu.png":
			p, err = f.bars("Processor time of the proxy", "CPU seconds per GB, less is better", CPUPerGB, 1, bulkRows)
		case "requests.png":
			p, err = f.bars("Small messages, and a connection for each", "thousands per second, more is better", Rate, 1e3, requestRows)
		case "latency.png":
			p, err = f.latencies()
		case "registration.png":
			p, err = f.registrations()
		case "sizes.png":
			p, err = f.sizes()
		}
		path := filepath.Join(dir, name)
		switch {
		case err != nil:
			return fmt.Errorf("plot %s: %w", name, err)
		case p == nil:
			if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
				return err
			}
		default:
			if err := write(p, path); err != nil {
				return fmt.Errorf("plot %s: %w", name, err)
			}
		}
	}
	return nil
}

// The look of all plots.
var (
	ink   = color.RGBA{0x33, 0x3a, 0x45, 0xff}
	faint = color.RGBA{0xe4, 0xe7, 0xeb, 0xff}

	// colors tell the peers apart, also for those who see no red or green.
	colors = map[string]color.RGBA{
		"direct":  {0xb8, 0xbf, 0xc8, 0xff},
		"go":      {0xe0, 0xa4, 0x58, 0xff},
		"nginx":   {0x4c, 0x9f, 0x8a, 0xff},
		"haproxy": {0x4a, 0x7f, 0xb5, 0xff},
		"dill":    {0xb8, 0x32, 0x4f, 0xff},
	}
)

const (
	width  = 20 * vg.Centimeter
	height = 11 * vg.Centimeter
	dpi    = 130
)

// newPlot is an empty plot in that look.
func newPlot(title, y string) *plot.Plot {
	p := plot.New()
	p.Title.Text = title
	p.Title.Padding = 3 * vg.Millimeter
	p.Y.Label.Text = y
	p.Title.TextStyle = style(15)
	p.Title.TextStyle.Font.Weight = 3 // bold
	p.Title.TextStyle.XAlign, p.Title.TextStyle.YAlign = draw.XCenter, draw.YTop
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		align := axis.Label.TextStyle
		axis.Label.TextStyle = style(11)
		axis.Label.TextStyle.XAlign, axis.Label.TextStyle.YAlign, axis.Label.TextStyle.Rotation = align.XAlign, align.YAlign, align.Rotation
		align = axis.Tick.Label
		axis.Tick.Label = style(10)
		axis.Tick.Label.XAlign, axis.Tick.Label.YAlign = align.XAlign, align.YAlign
		axis.LineStyle.Color, axis.Tick.LineStyle.Color = faint, faint
	}
	p.Legend.TextStyle = style(10)
	p.Legend.Top = true
	p.Legend.ThumbnailWidth = 5 * vg.Millimeter
	p.Legend.Padding = 1 * vg.Millimeter
	return p
}

func style(size font.Length) text.Style {
	return text.Style{
		Color:   ink,
		Font:    font.From(font.Font{Typeface: "Liberation", Variant: "Sans"}, size),
		Handler: plot.DefaultTextHandler,
	}
}

// write stores p as PNG, with room around it.
func write(p *plot.Plot, path string) error {
	img := vgimg.NewWith(vgimg.UseWH(width, height), vgimg.UseDPI(dpi), vgimg.UseBackgroundColor(color.White))
	c := draw.New(img)
	const margin = 4 * vg.Millimeter
	p.Draw(draw.Crop(c, margin, -margin, margin, -margin))
	part := path + ".part"
	out, err := os.Create(part)
	if err != nil {
		return err
	}
	_, err = (vgimg.PngCanvas{Canvas: img}).WriteTo(out)
	if e := out.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	return os.Rename(part, path)
}
