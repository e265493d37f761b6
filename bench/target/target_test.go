package target

import (
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"dill/bench/result"
	"dill/bench/stat"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// row has one sample of each peer a round; a value of 0 is none.
func row(metric string, values map[string][]float64) *result.Row {
	r := &result.Row{Scenario: "conn"}
	for peer, rounds := range values {
		for i, v := range rounds {
			if v != 0 {
				r.Samples = append(r.Samples, result.Sample{Peer: peer, Round: i, Values: map[string]float64{metric: v}})
			}
		}
	}
	return r
}

func TestBestOfTwoIsChosenInEachRound(t *testing.T) {
	r := row(result.Rate, map[string][]float64{
		"dill": {100, 100, 100}, "haproxy": {80, 125, 50}, "nginx": {50, 100, 100},
	})
	target := atLeast("", "conn", result.Rate, 1, "haproxy", "nginx")
	got := stat.Summarize(target.Measured(r, "dill"))
	if got != (stat.Summary{N: 3, Q1: 0.9, Median: 1, Q3: 1.125}) {
		t.Errorf("%+v, want ratios 1.25, 0.8 and 1", got)
	}
	// Of latency the better is the lower.
	r = row(result.P99, map[string][]float64{"dill": {10}, "haproxy": {20}, "nginx": {5}})
	target = atMost("", "conn", result.P99, 1, "haproxy", "nginx")
	if got := target.Measured(r, "dill"); len(got) != 1 || got[0] != 2 {
		t.Errorf("%v, want 10 by 5", got)
	}
}

func TestRoundsWithoutAPeerDoNotCount(t *testing.T) {
	r := row(result.Rate, map[string][]float64{"dill": {1, 2, 3}, "haproxy": {1, 0, 1}, "nginx": {1, 1, 0}})
	for peers, want := range map[string]int{"haproxy": 2, "nginx": 2, "haproxy nginx": 1, "go": 0, "": 3} {
		target := atLeast("", "conn", result.Rate, 1, strings.Fields(peers)...)
		if got := target.Measured(r, "dill"); len(got) != want {
			t.Errorf("%q: %v, want %d values", peers, got, want)
		}
	}
}

func TestJudge(t *testing.T) {
	r := row(result.Rate, map[string][]float64{"dill": {110, 120, 130}, "haproxy": {100, 100, 100}})
	tests := []struct {
		limit float64
		want  stat.Verdict
	}{{1.1, stat.Met}, {1.2, stat.Undecided}, {1.3, stat.NotMet}}
	for _, tt := range tests {
		target := atLeast("what", "conn", result.Rate, tt.limit, "haproxy")
		if got := target.Judge(r, "dill"); got.Verdict != tt.want || !got.Ratio || got.What != "what" {
			t.Errorf("at least %v: %+v, want %s", tt.limit, got, tt.want)
		}
	}
	target := atLeast("", "conn", result.Rate, 1, "haproxy")
	if got := target.Judge(nil, "dill"); got.Verdict != stat.Unknown {
		t.Errorf("without a row: %s", got.Verdict)
	}
	r.Error = "a lie"
	if got := target.Judge(r, "dill"); got.Verdict != stat.Unknown {
		t.Errorf("of a row that failed: %s", got.Verdict)
	}
}

func TestDoubtful(t *testing.T) {
	in := row(result.Rate, map[string][]float64{"dill": {90, 100, 110}, "haproxy": {100, 100, 100}, "nginx": {99, 99, 99}})
	if got := Doubtful(in, "dill"); !slices.Equal(got, []string{"dill", "haproxy", "nginx"}) {
		t.Errorf("%v: 0.9 to 1.1 is a doubt about 1", got)
	}
	out := row(result.Rate, map[string][]float64{"dill": {200, 200, 200}, "haproxy": {100, 100, 100}, "nginx": {99, 99, 99}})
	if got := Doubtful(out, "dill"); len(got) > 0 {
		t.Errorf("%v: 2 is no doubt about 1", got)
	}
	if got := Peers("conn"); !slices.Equal(got, []string{"haproxy", "nginx"}) {
		t.Errorf("%v are held against dill in conn", got)
	}
}

func TestTargetsAreWellFormed(t *testing.T) {
	seen := map[string]bool{}
	for _, target := range All {
		if seen[target.ID()] {
			t.Errorf("%s is there twice", target.ID())
		}
		seen[target.ID()] = true
		result.MetricNamed(target.Metric) // panics for one that is none
		if target.What == "" || target.Limit <= 0 {
			t.Errorf("%+v", target)
		}
	}
	for want, target := range map[string]Target{
		"≥ 1.05 × haproxy":                      atLeast("", "s", result.Rate, 1.05, "haproxy"),
		"≤ 1 × nginx":                           atMost("", "s", result.P99, 1, "nginx"),
		"≥ 1 × the better of haproxy and nginx": atLeast("", "s", result.Rate, 1, "haproxy", "nginx"),
		"≤ 512 B":                               atMost("", "s", result.BytesPerConn, 512),
	} {
		if got := target.Wanted(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
