// Package plot draws SVG that can be read on light and on dark pages: it has its
// own background, and follows the reader's colour scheme where the page lets it.
package plot

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"os"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// The colours of a light page, and of a dark one in their place. Each is used
// for one thing only, so that it can be found in the SVG.
var (
	paper = shade{color.RGBA{255, 255, 254, 255}, "#0d1117"}
	ink   = shade{color.RGBA{36, 41, 47, 255}, "#d7dde3"}
	rule  = shade{color.RGBA{216, 222, 228, 255}, "#30363d"}
)

type shade struct {
	light color.RGBA
	dark  string
}

func (s shade) hex() string { return fmt.Sprintf("#%02X%02X%02X", s.light.R, s.light.G, s.light.B) }

// Colours tell lines and bars apart, on either page. The first is for ours.
var Colours = []color.RGBA{
	{213, 94, 0, 255}, {128, 136, 145, 255}, {130, 110, 210, 255}, {60, 130, 200, 255},
	{200, 110, 170, 255}, {190, 150, 0, 255}, {0, 158, 115, 255}, {86, 190, 243, 255},
}

func blank(title, x, y string) *plot.Plot {
	p := plot.New()
	p.BackgroundColor = paper.light
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.Title.Padding = vg.Points(8)
	for _, style := range []*text.Style{
		&p.Title.TextStyle, &p.X.Label.TextStyle, &p.Y.Label.TextStyle,
		&p.X.Tick.Label, &p.Y.Tick.Label, &p.Legend.TextStyle,
	} {
		style.Color = ink.light
		style.Font = font.From(font.Font{Typeface: "Liberation", Variant: "Sans"}, 10)
	}
	p.Title.TextStyle.Font.Size = 12
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.Color, a.Tick.Color = ink.light, ink.light
		a.LineStyle.Color, a.Tick.LineStyle.Color = ink.light, ink.light
		a.Tick.Marker = plain{}
	}
	p.Legend.Top, p.Legend.Left, p.Legend.Padding = true, true, vg.Points(3)
	return p
}

func grid() *plotter.Grid {
	g := plotter.NewGrid()
	g.Vertical.Color, g.Horizontal.Color = rule.light, rule.light
	return g
}

// save writes the SVG, with the colours for dark pages, fonts that every reader
// has, and the legend beside the plot if it has room there.
func save(p *plot.Plot, path string, w, h, beside vg.Length) error {
	c := vgsvg.New(w, h)
	all := draw.New(c)
	all.SetColor(paper.light)
	all.Fill(all.Rectangle.Path())
	legend := p.Legend
	p.Legend = plot.NewLegend()
	p.Draw(draw.Crop(all, 10, -18-beside, 6, -8))
	if beside > 0 {
		legend.Draw(draw.Crop(all, w-beside-6, 0, 0, -30))
	}
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		return err
	}
	svg := strings.ReplaceAll(b.String(), "Liberation Sans", "Liberation Sans,Arial,Helvetica,sans-serif")
	var css strings.Builder
	css.WriteString("<style>@media (prefers-color-scheme:dark){")
	for _, s := range []shade{paper, ink, rule} {
		for _, what := range []string{"fill", "stroke"} {
			fmt.Fprintf(&css, "[style*=\"%[1]s:%[2]s\"]{%[1]s:%[3]s!important}", what, s.hex(), s.dark)
		}
	}
	css.WriteString("}</style>\n<g ")
	if !strings.Contains(svg, "<g ") {
		return fmt.Errorf("%s: no group in the SVG", path)
	}
	return os.WriteFile(path, []byte(strings.Replace(svg, "<g ", css.String(), 1)), 0o644)
}

// A Bar is one of a chart.
type Bar struct {
	Name  string
	Value float64
	Ours  bool
}

// Bars draws horizontal bars, the first on top, each with its value beside it.
// A line marks one, where the values are ratios. Without bars there is no chart.
func Bars(path, title, unit string, ratios bool, bars []Bar) error {
	if len(bars) == 0 {
		return nil
	}
	p := blank(title, unit, "")
	names := make([]string, len(bars))
	for i, b := range bars {
		names[len(bars)-1-i] = b.Name
	}
	p.NominalY(names...)
	p.Y.Tick.Length, p.Y.LineStyle.Width = 0, 0
	p.Y.Padding = vg.Points(16) // another font than the one that was measured may be wider
	p.Add(&rows{bars})
	if ratios {
		line, err := plotter.NewLine(plotter.XYs{{X: 1, Y: -0.6}, {X: 1, Y: float64(len(bars)) - 0.4}})
		if err != nil {
			return err
		}
		line.Color, line.Dashes = ink.light, []vg.Length{2, 2}
		p.Add(line)
	}
	p.X.Min, p.Y.Min, p.Y.Max = 0, -0.6, float64(len(bars))-0.4
	for _, b := range bars {
		p.X.Max = max(p.X.Max, b.Value*1.12)
	}
	return save(p, path, 7.5*vg.Inch, vg.Length(float64(len(bars))*0.25+0.9)*vg.Inch, 0)
}

// rows draws the bars and their values.
type rows struct{ bars []Bar }

func (r *rows) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	style := p.X.Tick.Label
	style.XAlign, style.YAlign = draw.XLeft, draw.YCenter
	for i, b := range r.bars {
		row := float64(len(r.bars) - 1 - i)
		shade := Colours[1]
		if b.Ours {
			shade = Colours[0]
		}
		c.FillPolygon(shade, []vg.Point{
			{X: x(0), Y: y(row - 0.35)}, {X: x(b.Value), Y: y(row - 0.35)},
			{X: x(b.Value), Y: y(row + 0.35)}, {X: x(0), Y: y(row + 0.35)},
		})
		c.FillText(style, vg.Point{X: x(b.Value) + 4, Y: y(row)}, Short(b.Value))
	}
}

func (r *rows) DataRange() (xmin, xmax, ymin, ymax float64) {
	return 0, 1, 0, float64(len(r.bars))
}

// A Line is one of a plot.
type Line struct {
	Name string
	X, Y []float64
	Ours bool
}

// Lines draws lines, with both axes logarithmic if asked, where what is 0 is not
// drawn. Without lines there is no plot.
func Lines(path, title, x, y string, log bool, lines []Line) error {
	if len(lines) == 0 {
		return nil
	}
	p := blank(title, x, y)
	p.Add(grid())
	top := 0.
	for i, l := range lines {
		points := make(plotter.XYs, 0, len(l.X))
		for k := range l.X {
			if log && l.Y[k] <= 0 {
				continue
			}
			points = append(points, plotter.XY{X: l.X[k], Y: l.Y[k]})
			top = max(top, l.Y[k])
		}
		if len(points) == 0 {
			continue
		}
		line, dots, err := plotter.NewLinePoints(points)
		if err != nil {
			return err
		}
		line.Color, line.Width = Colours[(i+1)%len(Colours)], vg.Points(1.3)
		if l.Ours {
			line.Color, line.Width = Colours[0], vg.Points(2.6)
		}
		dots.Color, dots.Shape, dots.Radius = line.Color, draw.CircleGlyph{}, vg.Points(2)
		p.Add(line)
		if len(points) < 20 {
			p.Add(dots)
		}
		p.Legend.Add(l.Name, line)
	}
	if log {
		p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
		p.X.Tick.Marker, p.Y.Tick.Marker = decades{}, decades{}
		p.Y.Max = math.Pow(10, math.Ceil(math.Log10(max(p.Y.Max, 1e-9))))
		p.Y.Min = math.Pow(10, math.Floor(math.Log10(max(p.Y.Min, 1e-9))))
	} else {
		p.Y.Min, p.Y.Max = 0, top*1.05+1e-9
	}
	return save(p, path, 8.5*vg.Inch, 3.6*vg.Inch, 175)
}

// plain marks round numbers.
type plain struct{}

func (plain) Ticks(low, high float64) []plot.Tick {
	ticks := plot.DefaultTicks{}.Ticks(low, high)
	for i := range ticks {
		if ticks[i].Label != "" {
			ticks[i].Label = Short(ticks[i].Value)
		}
	}
	return ticks
}

// decades marks the powers of ten, and the steps between them without a name.
type decades struct{}

func (decades) Ticks(low, high float64) (ticks []plot.Tick) {
	for d := math.Pow(10, math.Floor(math.Log10(low))); d <= high*1.0001; d *= 10 {
		for i := 1.; i < 10; i++ {
			t := plot.Tick{Value: d * i}
			if i == 1 {
				t.Label = Short(d)
			}
			if t.Value >= low*0.9999 && t.Value <= high*1.0001 {
				ticks = append(ticks, t)
			}
		}
	}
	return ticks
}

// Short writes a number with two or three digits that count.
func Short(v float64) string {
	switch a := math.Abs(v); {
	case a == 0:
		return "0"
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0")
	case a >= 1:
		return strings.TrimSuffix(fmt.Sprintf("%.2f", v), ".00")
	}
	return fmt.Sprintf("%.2g", v)
}
