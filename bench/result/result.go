// Package result is what a run of the benchmarks leaves behind: the schema of
// bench/results/latest.json, and the table, the comparison and the plots made
// from it.
//
// A file holds the raw samples, one for each turn of a peer. Everything else in
// it – medians, ratios, verdicts – follows from them and is there for readers
// without this program.
package result

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"dill/bench/stat"
)

// Schema is the version of the format. It grows when a reader of the older
// would misunderstand the newer.
const Schema = 1

// File is one run.
type File struct {
	Schema   int       `json:"schema"`
	Began    time.Time `json:"began"`
	Took     string    `json:"took"`
	Dill     string    `json:"dill"`             // version of dill
	Quick    bool      `json:"quick,omitempty"`  // only looked whether everything works
	Source   string    `json:"source"`           // "consul": traffic took the path from registration to relay; or "file"
	Consul   string    `json:"consul,omitempty"` // version
	Load     float64   `json:"load"`             // average over the minute before it began: what else kept the machine busy
	Settings Settings  `json:"settings"`
	Machine  Machine   `json:"machine"`
	Peers    []Peer    `json:"peers"`
	Missing  []string  `json:"missing,omitempty"` // peers that were not found, and how to get them
	Rows     []Row     `json:"rows"`
	Targets  []Target  `json:"targets"`
}

// Settings are what the run was asked for.
type Settings struct {
	Pairs    int    `json:"pairs"`
	Duration string `json:"duration"` // of each measured window
	Warmup   string `json:"warmup"`   // before it
}

// Machine is where it ran.
type Machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Memory int64  `json:"memory"` // bytes
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
	Files  int    `json:"files"` // limit of open files
	Root   bool   `json:"root"`  // ran as root: no limit on pipes
}

// Peer is one of what was compared.
type Peer struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Config  string `json:"config"`
}

// Row is one scenario.
type Row struct {
	Scenario string   `json:"scenario"` // short name, as in SCENARIOS=
	Title    string   `json:"title"`
	Note     string   `json:"note,omitempty"`
	Show     []string `json:"show"` // metrics of the table, the most telling first
	Samples  []Sample `json:"samples"`

	// Medians is peer → metric → quartiles over the samples; Ratios is peer →
	// metric → quartiles of the first peer's value divided by this peer's in the
	// same round.
	Medians map[string]map[string]stat.Summary `json:"medians"`
	Ratios  map[string]map[string]stat.Summary `json:"ratios,omitempty"`

	// Curves is peer → latency at rising percentiles, of all rounds together.
	Curves map[string][]Point `json:"curves,omitempty"`

	Doubled bool   `json:"doubled,omitempty"` // measured twice as often, as a target was in doubt
	Error   string `json:"error,omitempty"`   // why the scenario failed
	Skipped string `json:"skipped,omitempty"` // why it did not run
}

// Sample is what one turn of a peer gave. Metrics are named in Metrics.
type Sample struct {
	Peer   string             `json:"peer"`
	Round  int                `json:"round"` // samples of one round are compared with each other
	Values map[string]float64 `json:"values"`
}

// Point is one of a latency curve.
type Point struct {
	Percentile float64 `json:"percentile"` // 0 to 100
	Micros     float64 `json:"us"`
}

// Target is one line of the targets, judged.
type Target struct {
	ID      string       `json:"id"`
	What    string       `json:"what"`
	Wanted  string       `json:"wanted"` // "≥ 1.05 × haproxy"
	Metric  string       `json:"metric"`
	Ratio   bool         `json:"ratio"`   // Got is of ratios to a peer, not of values of the metric
	Got     stat.Summary `json:"got"`     // of the ratio, or of the value
	Verdict stat.Verdict `json:"verdict"` // met, not met, undecided, not measured
}

// Busy tells whether the machine had so much else to do when the run began that
// its figures are not worth much.
func (f *File) Busy() bool { return f.Load > float64(f.Machine.Cores)/2 }

// Shown writes a number of Got.
func (t Target) Shown(v float64) string {
	if t.Ratio {
		return fmt.Sprintf("%.2f", v)
	}
	return MetricNamed(t.Metric).Format(v)
}

// Row returns the row of a scenario, nil if there is none.
func (f *File) Row(scenario string) *Row {
	for i := range f.Rows {
		if f.Rows[i].Scenario == scenario {
			return &f.Rows[i]
		}
	}
	return nil
}

// Values returns a metric of a peer by round. Rounds without it are missing.
func (r *Row) Values(peer, metric string) map[int]float64 {
	values := make(map[int]float64)
	for _, s := range r.Samples {
		if v, ok := s.Values[metric]; ok && s.Peer == peer {
			values[s.Round] = v
		}
	}
	return values
}

// PairRatios returns a's metric divided by b's, for each round that has both,
// in the order of the rounds.
func (r *Row) PairRatios(metric, a, b string) []float64 {
	va, vb := r.Values(a, metric), r.Values(b, metric)
	var as, bs []float64
	for round := range r.rounds() {
		x, okA := va[round]
		y, okB := vb[round]
		if okA && okB {
			as, bs = append(as, x), append(bs, y)
		}
	}
	return stat.Ratios(as, bs)
}

// rounds is one more than the highest round.
func (r *Row) rounds() int {
	n := 0
	for _, s := range r.Samples {
		n = max(n, s.Round+1)
	}
	return n
}

// Peers returns who has samples, in the order of their first.
func (r *Row) Peers() []string {
	var names []string
	seen := map[string]bool{}
	for _, s := range r.Samples {
		if !seen[s.Peer] {
			seen[s.Peer] = true
			names = append(names, s.Peer)
		}
	}
	return names
}

// Summarize fills in Medians and Ratios, the latter of subject against every
// other peer.
func (r *Row) Summarize(subject string) {
	r.Medians = map[string]map[string]stat.Summary{}
	r.Ratios = map[string]map[string]stat.Summary{}
	for _, peer := range r.Peers() {
		r.Medians[peer] = map[string]stat.Summary{}
		ratios := map[string]stat.Summary{}
		for _, m := range Metrics {
			var values []float64
			byRound := r.Values(peer, m.Name)
			for round := range r.rounds() {
				if v, ok := byRound[round]; ok {
					values = append(values, v)
				}
			}
			if len(values) > 0 {
				r.Medians[peer][m.Name] = stat.Summarize(values)
			}
			if pairs := r.PairRatios(m.Name, subject, peer); peer != subject && len(pairs) > 0 {
				ratios[m.Name] = stat.Summarize(pairs)
			}
		}
		if len(ratios) > 0 {
			r.Ratios[peer] = ratios
		}
	}
}

// Save writes f as dir/latest.json, and its plots beside it.
func (f *File) Save(dir string) error {
	if err := f.Write(filepath.Join(dir, "latest.json")); err != nil {
		return err
	}
	return f.Plot(dir)
}

// Write stores f at path, whole or not at all.
func (f *File) Write(path string) error {
	b, err := json.MarshalIndent(f, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	part := path + ".part"
	if err := os.WriteFile(part, append(b, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(part, path)
}

// Read loads the file at path.
func Read(path string) (*File, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	f := new(File)
	if err := json.Unmarshal(b, f); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if f.Schema != Schema {
		return nil, fmt.Errorf("%s has schema %d; this program reads %d", path, f.Schema, Schema)
	}
	return f, nil
}
