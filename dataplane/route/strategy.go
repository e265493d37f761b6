package route

import (
	"fmt"
	"slices"
	"strings"
)

// Strategy is how a listener picks among its backends.
type Strategy uint8

const (
	RoundRobin Strategy = iota // weighted, smooth
	LeastConn                  // fewest connections for its weight
	Random                     // two choices, the less loaded
	SourceHash                 // Maglev over the client address
)

// strategies are the names in tags, configuration and Peek.
var strategies = []string{
	RoundRobin: "round_robin",
	LeastConn:  "least_conn",
	Random:     "random",
	SourceHash: "source_hash",
}

func (s Strategy) String() string {
	if int(s) < len(strategies) {
		return strategies[s]
	}
	return fmt.Sprintf("strategy(%d)", uint8(s))
}

// ParseStrategy is the inverse of String. The error names what is accepted and
// does not repeat name, which may be foreign input.
func ParseStrategy(name string) (Strategy, error) {
	if i := slices.Index(strategies, name); i >= 0 {
		return Strategy(i), nil
	}
	return 0, fmt.Errorf("strategy is one of %s", strings.Join(strategies, ", "))
}
