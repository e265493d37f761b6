package result

import (
	"strings"
	"testing"
)

// alone is a scenario in which the load generator has the first value without a
// proxy, and the others with some.
func alone(name, metric string, values ...float64) Row {
	r := Row{Scenario: name, Show: []string{metric}}
	for i, peer := range []string{direct, "dill", "haproxy", "nginx"}[:len(values)] {
		r.Samples = append(r.Samples, Sample{peer, 0, map[string]float64{metric: values[i]}})
	}
	r.Summarize("dill")
	return r
}

func TestHeadroom(t *testing.T) {
	for _, tt := range []struct {
		name string
		row  Row
		want float64
	}{
		{"the fastest counts", alone("rr1", Rate, 30, 20, 10, 15), 1.5},
		{"whoever that is", alone("bulk1", Throughput, 30, 10, 40), 0.75},
		{"less is better", alone("openloop", P50, 10, 20), 0},
		{"no proxy", alone("rr1", Rate, 30), 0},
		{"only proxies", row(100, 100), 0},
		{"a row that shows nothing", Row{}, 0},
	} {
		if got := tt.row.Headroom(); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// A load generator that limits is spoken of wherever the figures are.
func TestScantHeadroomIsTold(t *testing.T) {
	for _, tt := range []struct {
		rows   []Row
		want   string
		limits bool
	}{
		{nil, "", false},
		{[]Row{alone("openloop", P50, 10, 20)}, "", false},
		{[]Row{alone("rr1", Rate, 30, 10), alone("conn", Rate, 18, 12), alone("openloop", P50, 1, 2)}, "at least 1.50 times as much as with the fastest (conn)", false},
		{[]Row{alone("rr1", Rate, 30, 10), alone("bulk1", Throughput, 11, 10)}, "at least 1.10 times as much as with the fastest (bulk1)", true},
	} {
		f := &File{Rows: tt.rows}
		var table, readme strings.Builder
		PrintTargets(&table, f)
		f.markdown(&readme, t.TempDir(), "results")
		for where, text := range map[string]string{"the table": table.String(), "the README": readme.String()} {
			if !strings.Contains(text, tt.want) || strings.Contains(text, "load generator") != (tt.want != "") {
				t.Errorf("%s says\n%s\nwant %q", where, text, tt.want)
			}
			if strings.Contains(text, "generator that limits") != tt.limits {
				t.Errorf("%s says\n%s\nthat the generator limits: want %v", where, text, tt.limits)
			}
		}
	}
}
