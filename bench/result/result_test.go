package result

import (
	"image/png"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"dill/bench/stat"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// row is a scenario in which dill's rates are those given, haproxy's are 100 in
// every round but the second, in which it did not run.
func row(rates ...float64) Row {
	r := Row{Scenario: "rr64", Title: "request/response", Show: []string{Rate, P50}}
	for i, rate := range rates {
		r.Samples = append(r.Samples, Sample{"dill", i, map[string]float64{Rate: rate, P50: 1e6 / rate}})
		if i != 1 {
			r.Samples = append(r.Samples, Sample{"haproxy", i, map[string]float64{Rate: 100, P50: 1e4}})
		}
	}
	r.Summarize("dill")
	return r
}

func TestSummarizePairsRounds(t *testing.T) {
	r := row(110, 999, 120, 130)
	if got := r.Medians["dill"][Rate]; got.N != 4 || got.Median != 125 {
		t.Errorf("dill's median is %+v", got)
	}
	got := r.Ratios["haproxy"][Rate]
	if got.N != 3 || math.Abs(got.Median-1.2) > 1e-9 {
		t.Errorf("the ratio is %+v, want a median of 1.2 over the 3 rounds that both had", got)
	}
	if _, ok := r.Ratios["dill"]; ok {
		t.Error("dill is compared with itself")
	}
}

// file is a run with everything in it that plots show.
func file(rate float64) *File {
	f := &File{
		Schema: Schema, Began: time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC), Dill: "v1", Source: "consul", Consul: "Consul 1.22.0",
		Settings: Settings{Pairs: 5, Duration: "2s"}, Machine: Machine{CPU: "Some CPU", Cores: 2},
		Peers: []Peer{{Name: "haproxy", Version: "HAProxy 2.6"}, {Name: "dill", Version: "v1"}},
		Targets: []Target{{ID: "a", What: "request/response", Wanted: "≥ 1 × haproxy", Metric: Rate, Ratio: true,
			Got: stat.Summary{N: 3, Q1: 1.1, Median: 1.2, Q3: 1.3}, Verdict: stat.Met},
			{ID: "b", What: "memory", Wanted: "≤ 512 B", Metric: BytesPerConn, Got: stat.Summary{N: 3, Q1: 600, Median: 700, Q3: 800}, Verdict: stat.NotMet},
			{ID: "c", What: "cold start", Wanted: "≤ 3 s", Metric: ColdStart, Verdict: stat.Unknown}},
	}
	rr := row(rate*1.1, rate, rate*1.2, rate*1.3)
	rr.Curves = map[string][]Point{"dill": {{0, 10}, {50, 100}, {99, 900}, {100, 2000}}, "haproxy": {{50, 150}, {99.9, 3000}}}
	bulk := Row{Scenario: "bulk1", Show: []string{Throughput, CPUPerGB}, Samples: []Sample{
		{"dill", 0, map[string]float64{Throughput: 2e9, CPUPerGB: 0.2}}, {"nginx", 0, map[string]float64{Throughput: 1e9, CPUPerGB: 0.8}}}}
	register := Row{Scenario: "register300", Show: []string{OpenP50}, Curves: map[string][]Point{"open": {{0, 2e3}, {50, 5e3}, {100, 9e3}}, "close": {{0, 2e3}, {100, 8e3}}}}
	small := Row{Scenario: "size64", Show: []string{Rate}, Samples: []Sample{{"dill", 0, map[string]float64{Rate: 5e4}}, {"direct", 0, map[string]float64{Rate: 1e5}}}}
	large := Row{Scenario: "size64K", Show: []string{Rate}, Samples: []Sample{{"dill", 0, map[string]float64{Rate: 1e4}}, {"direct", 0, map[string]float64{Rate: 2e4}}}}
	f.Rows = []Row{bulk, rr, register, small, large}
	for i := range f.Rows {
		f.Rows[i].Summarize("dill")
	}
	return f
}

func TestSaved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "results")
	f := file(100)
	if err := f.Save(dir); err != nil {
		t.Fatal(err)
	}
	got, err := Read(filepath.Join(dir, "latest.json"))
	if err != nil {
		t.Fatal(err)
	}
	if got.Dill != f.Dill || len(got.Rows) != len(f.Rows) || got.Row("rr64").Ratios["haproxy"][Rate] != f.Row("rr64").Ratios["haproxy"][Rate] {
		t.Errorf("%+v came back as %+v", f, got)
	}
	for _, name := range Plots {
		p, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
			continue
		}
		img, err := png.Decode(p)
		p.Close()
		if err != nil || img.Bounds().Dx() < 800 {
			t.Errorf("%s: %v, %v", name, img.Bounds(), err)
		}
	}

	// The next run measures less: its plots must not be beside old ones.
	f.Rows = nil
	if err := f.Save(dir); err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*.png")); err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

func TestReadRefusesWhatItDoesNotKnow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.json")
	for _, text := range []string{"", "{", `{"schema": 99}`, `[]`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: %v, want an error that names the file", text, err)
		}
	}
}

func TestReadme(t *testing.T) {
	dir := t.TempDir()
	results := filepath.Join(dir, "bench", "results")
	f := file(100)
	if err := f.Save(results); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "README.md")
	const before, after = "# dill\n\nbefore\n", "\n\nafter\n"
	for _, old := range []string{"\n", "\nold figures\n"} {
		text := before + ReadmeBegin + old + ReadmeEnd + after
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := f.Readme(path, results); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		got := string(b)
		for _, want := range []string{
			before + ReadmeBegin, ReadmeEnd + after, "3 February 2026", "Some CPU", "HAProxy 2.6", "Consul 1.22.0",
			"| request/response | ≥ 1 × haproxy | 1.20 (1.10–1.30) | met |",
			"| memory | ≤ 512 B | 700 B (600 B–800 B) | not met |",
			"| cold start | ≤ 3 s | – | not measured |",
			"(bench/results/throughput.png)", "| **2.00** |",
		} {
			if !strings.Contains(got, want) {
				t.Errorf("no %q in\n%s", want, got)
			}
		}
		if strings.Contains(got, "old figures") {
			t.Error("the old figures are still there")
		}
	}
	if err := os.WriteFile(path, []byte("no markers"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.Readme(path, results); err == nil || !strings.Contains(err.Error(), ReadmeBegin) {
		t.Errorf("%v, want an error that says what is missing", err)
	}
}

func TestCompare(t *testing.T) {
	tests := []struct {
		name     string
		old, new *File
		worse    bool
		want     []string
		not      []string
	}{
		{"the same", file(100), file(100), false, []string{"Nothing moved"}, []string{"WORSE", "better"}},
		{"slower", file(200), file(100), true, []string{"rr64", "dill", "0.50", "WORSE"}, []string{"better"}},
		{"faster", file(100), file(200), false, []string{"2.00", "better"}, []string{"WORSE"}},
		{"within its spread", file(100), file(104), false, []string{"Nothing moved"}, []string{"WORSE", "better"}},
	}
	for _, tt := range tests {
		var b strings.Builder
		if got := Compare(&b, tt.old, tt.new, "dill"); got != tt.worse {
			t.Errorf("%s: worse is %v", tt.name, got)
		}
		for _, want := range tt.want {
			if !strings.Contains(b.String(), want) {
				t.Errorf("%s: no %q in\n%s", tt.name, want, b.String())
			}
		}
		for _, not := range tt.not {
			if strings.Contains(b.String(), not) {
				t.Errorf("%s: %q in\n%s", tt.name, not, b.String())
			}
		}
	}
}

func TestCompareNamesLostTargets(t *testing.T) {
	a, b := file(100), file(100)
	b.Targets[0].Verdict = stat.NotMet
	b.Machine.Cores = 64
	var text strings.Builder
	if !Compare(&text, a, b, "dill") {
		t.Error("a target that is lost is nothing worse")
	}
	for _, want := range []string{"request/response ≥ 1 × haproxy was met, is not met", "not measured alike"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text.String())
		}
	}
}

func TestFormat(t *testing.T) {
	tests := []struct {
		metric string
		v      float64
		want   string
	}{
		{Throughput, 2.345e9, "2.35"}, {CPUPerGB, 0.1234, "0.123 s"}, {Rate, 54321.6, "54322"},
		{P99, 1234, "1234 µs"}, {P99, 12345, "12.3 ms"}, {OpenP50, 2.84, "2.8 ms"},
		{BytesPerConn, 166.4, "166 B"}, {BytesPerConn, 12600, "12.6 KB"}, {RSS, 8.2e6, "8.2 MB"}, {RSS, 345e6, "345 MB"},
		{FilesPerConn, 2, "2"}, {MallocsPerOp, 0.00213, "0.00213"}, {RSSOverEmpty, -5, "-5 B"},
	}
	for _, tt := range tests {
		if got := MetricNamed(tt.metric).Format(tt.v); got != tt.want {
			t.Errorf("%s %v: %q, want %q", tt.metric, tt.v, got, tt.want)
		}
	}
}

func TestPrintRow(t *testing.T) {
	r := row(110, 100, 120)
	var b strings.Builder
	PrintRow(&b, &r, "dill")
	for _, want := range []string{"per second", "dill ÷ it", "110", "1.15", "1.12–1.18"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	b.Reset()
	PrintRow(&b, &Row{Error: "the client saw a lie"}, "dill")
	if !strings.Contains(b.String(), "FAILED: the client saw a lie") {
		t.Errorf("a failure is not loud: %s", b.String())
	}
}

func TestMachine(t *testing.T) {
	m := ThisMachine()
	if m.Cores < 1 || m.Memory == 0 || m.Kernel == "" || m.Files == 0 {
		t.Errorf("%+v", m)
	}
}
