package result

import (
	"fmt"
	"math"
)

// Metric is a kind of number that a sample holds.
type Metric struct {
	Name  string // in Sample.Values
	Label string // at the head of a column
	More  bool   // more is better
	unit  unit
}

type unit int

const (
	plain   unit = iota
	gigas        // of bytes a second
	seconds      // of processor time for a gigabyte
	micros       // of latency
	millis       // of latency
	bytes        // of memory
	perSec       // operations
)

// The names of the metrics.
const (
	Throughput    = "bytes_per_s"
	CPUPerGB      = "cpu_s_per_gb" // of the proxy; GB = 10⁹ bytes
	Rate          = "ops_per_s"
	CPUPerOp      = "cpu_us_per_op" // of the proxy
	P50           = "p50_us"
	P90           = "p90_us"
	P99           = "p99_us"
	P999          = "p99.9_us"
	ProxyCPU      = "proxy_cpu"  // cores busy, of the proxy
	ClientCPU     = "client_cpu" // of the load generator
	SinkCPU       = "sink_cpu"
	BytesPerConn  = "rss_bytes_per_conn" // slope of user-space memory
	FilesPerConn  = "files_per_conn"
	Mallocs       = "mallocs" // during the run, by dill's own count
	MallocsPerOp  = "mallocs_per_op"
	GCCycles      = "gc_cycles"
	RSS           = "rss_bytes"      // of the process
	RSSOverEmpty  = "rss_over_empty" // bytes over the process with no routes
	AllOpen       = "all_open_s"     // until every listener was open
	OpenP50       = "open_p50_ms"    // from the registration's return until served
	OpenP99       = "open_p99_ms"
	OpenWholeP50  = "open_whole_p50_ms" // with the registration call itself
	CloseP50      = "close_p50_ms"
	CloseP99      = "close_p99_ms"
	CloseWholeP50 = "close_whole_p50_ms"
	ColdStart     = "cold_start_s"
	ConsulConns   = "consul_conns"
	Requests      = "requests_per_change"
	P99Slowdown   = "p99_slowdown" // p99 under change, by p99 at rest
)

// Metrics are all of them, in the order of tables.
var Metrics = []Metric{
	{Throughput, "GB/s", true, gigas},
	{Rate, "per second", true, perSec},
	{P50, "p50", false, micros},
	{P90, "p90", false, micros},
	{P99, "p99", false, micros},
	{P999, "p99.9", false, micros},
	{CPUPerGB, "CPU-s/GB", false, seconds},
	{CPUPerOp, "CPU each", false, micros},
	{ProxyCPU, "proxy cores", false, plain},
	{ClientCPU, "client cores", false, plain},
	{SinkCPU, "sink cores", false, plain},
	{BytesPerConn, "bytes/conn", false, bytes},
	{FilesPerConn, "fds/conn", false, plain},
	{Mallocs, "mallocs", false, plain},
	{MallocsPerOp, "mallocs each", false, plain},
	{GCCycles, "GC cycles", false, plain},
	{RSS, "RSS", false, bytes},
	{RSSOverEmpty, "RSS over empty", false, bytes},
	{AllOpen, "all open", false, seconds},
	{OpenP50, "open p50", false, millis},
	{OpenP99, "open p99", false, millis},
	{OpenWholeP50, "open p50, with the call", false, millis},
	{CloseP50, "close p50", false, millis},
	{CloseP99, "close p99", false, millis},
	{CloseWholeP50, "close p50, with the call", false, millis},
	{ColdStart, "cold start", false, seconds},
	{ConsulConns, "connections to Consul", false, plain},
	{Requests, "requests per change", false, plain},
	{P99Slowdown, "p99, × at rest", false, plain},
}

// MetricNamed returns the metric of that name.
func MetricNamed(name string) Metric {
	for _, m := range Metrics {
		if m.Name == name {
			return m
		}
	}
	panic("bench: BUG: no metric is called " + name)
}

// Format writes a value with its unit, to about three digits.
func (m Metric) Format(v float64) string {
	switch m.unit {
	case gigas:
		return fmt.Sprintf("%.2f", v/1e9)
	case seconds:
		return fmt.Sprintf("%.3f s", v)
	case micros:
		if v >= 10_000 {
			return fmt.Sprintf("%.1f ms", v/1e3)
		}
		return fmt.Sprintf("%.0f µs", v)
	case millis:
		return fmt.Sprintf("%.1f ms", v)
	case bytes:
		return Bytes(v)
	case perSec:
		return fmt.Sprintf("%.0f", v)
	}
	if v == math.Trunc(v) {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

// Bytes writes a number of bytes; KB and MB are 10³ and 10⁶.
func Bytes(v float64) string {
	switch a := math.Abs(v); {
	case a >= 100e6:
		return fmt.Sprintf("%.0f MB", v/1e6)
	case a >= 1e6:
		return fmt.Sprintf("%.1f MB", v/1e6)
	case a >= 10e3:
		return fmt.Sprintf("%.1f KB", v/1e3)
	}
	return fmt.Sprintf("%.0f B", v)
}
