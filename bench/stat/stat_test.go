package stat

import (
	"math"
	"slices"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSummarize(t *testing.T) {
	tests := []struct {
		values []float64
		want   Summary
	}{
		{nil, Summary{}},
		{[]float64{7}, Summary{1, 7, 7, 7}},
		{[]float64{2, 1}, Summary{2, 1.25, 1.5, 1.75}},
		{[]float64{5, 1, 4, 2, 3}, Summary{5, 2, 3, 4}},
		// As R's quantile() and NumPy's percentile() have it.
		{[]float64{10, 20, 30, 40}, Summary{4, 17.5, 25, 32.5}},
		{[]float64{1, 1, 1, 100}, Summary{4, 1, 1, 25.75}},
	}
	for _, tt := range tests {
		before := slices.Clone(tt.values)
		if got := Summarize(tt.values); got != tt.want {
			t.Errorf("of %v: %+v, want %+v", tt.values, got, tt.want)
		}
		if !slices.Equal(before, tt.values) {
			t.Errorf("%v was sorted in place", before)
		}
	}
}

func TestQuantileEnds(t *testing.T) {
	sorted := []float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	for q, want := range map[float64]float64{0: 1, 1: 10, 0.5: 5.5, 0.9: 9.1} {
		if got := Quantile(sorted, q); math.Abs(got-want) > 1e-9 {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
}

func TestRatiosArePaired(t *testing.T) {
	// The machine got slower all the time, and b is always twice as fast: the
	// ratio of medians would say something else of unequal halves.
	a := []float64{50, 40, 30, 20, 10}
	b := []float64{100, 80, 60, 40, 20}
	for i, r := range Ratios(a, b) {
		if r != 0.5 {
			t.Errorf("pair %d: %v, want 0.5", i, r)
		}
	}
	if got := Ratios([]float64{1, 2}, []float64{0, 4}); len(got) != 1 || got[0] != 0.5 {
		t.Errorf("with a divisor of 0: %v, want [0.5]", got)
	}
}

func TestJudge(t *testing.T) {
	tests := []struct {
		name    string
		s       Summary
		limit   float64
		atLeast bool
		want    Verdict
	}{
		{"nothing measured", Summary{}, 1, true, Unknown},
		{"well above", Summary{5, 1.1, 1.2, 1.3}, 1.05, true, Met},
		{"well below", Summary{5, 0.8, 0.9, 1}, 1.05, true, NotMet},
		{"straddles, median above", Summary{5, 1.0, 1.1, 1.2}, 1.05, true, Undecided},
		{"straddles, median below", Summary{5, 0.9, 1.0, 1.1}, 1.05, true, Undecided},
		{"quartile on the limit, above", Summary{5, 1.05, 1.1, 1.2}, 1.05, true, Met},
		{"quartile on the limit, below", Summary{5, 0.9, 1, 1.05}, 1.05, true, NotMet},
		{"exactly", Summary{5, 2, 2, 2}, 2, true, Met},
		{"at most, exactly", Summary{5, 2, 2, 2}, 2, false, Met},
		{"at most, below", Summary{5, 100, 166, 200}, 512, false, Met},
		{"at most, above", Summary{5, 600, 700, 800}, 512, false, NotMet},
		{"at most, straddles", Summary{5, 400, 500, 600}, 512, false, Undecided},
	}
	for _, tt := range tests {
		if got := Judge(tt.s, tt.limit, tt.atLeast); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
