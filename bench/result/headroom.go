package result

import (
	"fmt"
	"math"
)

// direct is the peer that is no proxy at all: the load generator at the sink.
const direct = "direct"

// enough is the headroom from which on it is the proxy that limits, and two
// proxies can be told apart.
const enough = 1.2

// Headroom is how many times as much the load generator and the sink did without
// a proxy as with the fastest one, of the metric that is shown first. It is 0 if
// that is none of which more is better, or if either was not measured.
func (r *Row) Headroom() float64 {
	if len(r.Show) == 0 || !MetricNamed(r.Show[0]).More {
		return 0
	}
	alone, fastest := 0.0, 0.0
	for peer, medians := range r.Medians {
		if v := medians[r.Show[0]].Median; peer == direct {
			alone = v
		} else {
			fastest = max(fastest, v)
		}
	}
	if fastest == 0 {
		return 0
	}
	return alone / fastest
}

// headroom is a sentence on whether the load generator could have been what
// limited, "" if that was not measured.
func (f *File) headroom() string {
	least, scenario := math.Inf(1), ""
	for i := range f.Rows {
		if h := f.Rows[i].Headroom(); h > 0 && h < least {
			least, scenario = h, f.Rows[i].Scenario
		}
	}
	if scenario == "" {
		return ""
	}
	text := fmt.Sprintf("Without a proxy the load generator did at least %.2f times as much as with the fastest (%s).", least, scenario)
	if least < enough {
		text += fmt.Sprintf(" Below %.1f it may be the generator that limits, and the ratios say less.", enough)
	}
	return text
}
