// Package stat is the arithmetic of the benchmarks: medians, quartiles, and
// what the ratios of paired measurements say about a target.
//
// Two programs measured one after the other on a shared machine see the same
// weather, two measured an hour apart do not. So measurements come in pairs,
// each pair gives one ratio, and only the ratios are judged.
package stat

import (
	"math"
	"slices"
)

// Summary is a sample in three numbers.
type Summary struct {
	N      int     `json:"n"`
	Q1     float64 `json:"q1"`
	Median float64 `json:"median"`
	Q3     float64 `json:"q3"`
}

// Summarize returns the quartiles of the values, which it leaves as they are.
// Of none it returns the zero Summary.
func Summarize(values []float64) Summary {
	sorted := slices.Sorted(slices.Values(values))
	return Summary{
		N:      len(sorted),
		Q1:     Quantile(sorted, 0.25),
		Median: Quantile(sorted, 0.5),
		Q3:     Quantile(sorted, 0.75),
	}
}

// Quantile returns the value below which the share q (0 to 1) of the sorted
// values lies, interpolated between the two nearest (type 7 of Hyndman and Fan,
// what R and NumPy do unasked). Of no values it is 0.
func Quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	at := q * float64(len(sorted)-1)
	below := int(math.Floor(at))
	above := min(below+1, len(sorted)-1)
	return sorted[below] + (at-float64(below))*(sorted[above]-sorted[below])
}

// Ratios divides pair by pair. Both have the same length; pairs with a divisor
// of 0 are left out.
func Ratios(a, b []float64) []float64 {
	var r []float64
	for i := range a {
		if b[i] != 0 {
			r = append(r, a[i]/b[i])
		}
	}
	return r
}

// Verdict is what a sample says about a limit.
type Verdict string

const (
	Met       Verdict = "met"
	NotMet    Verdict = "not met"
	Undecided Verdict = "undecided" // the interquartile range straddles the limit
	Unknown   Verdict = "not measured"
)

// Judge compares a sample with a limit, which the median must reach from above
// (atLeast) or from below. Where the middle half of the sample lies on both
// sides of the limit it is Undecided.
func Judge(s Summary, limit float64, atLeast bool) Verdict {
	switch {
	case s.N == 0:
		return Unknown
	case s.Q1 < limit && limit < s.Q3:
		return Undecided
	case atLeast && s.Median >= limit, !atLeast && s.Median <= limit:
		return Met
	}
	return NotMet
}
