package load

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// slowProxy is toxiproxy in front of target with one toxic.
func slowProxy(t *testing.T, target netip.AddrPort, toxic string) []netip.AddrPort {
	t.Helper()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	p := toxiproxy.NewProxy(server, "slow", "127.0.0.1:0", target.String())
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	if _, err := p.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
		t.Fatal(err)
	}
	return []netip.AddrPort{netip.MustParseAddrPort(p.Listen)}
}

// quantiles runs spec and returns its p50 and p99.
func quantiles(t *testing.T, spec Spec) (p50, p99 time.Duration, r *Result) {
	t.Helper()
	r, err := Run(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	h, err := r.Histogram()
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(h.ValueAtQuantile(50)), time.Duration(h.ValueAtQuantile(99)), r
}

func TestSlowProxyShows(t *testing.T) {
	const delay = 30 * time.Millisecond
	sinks := serve(t, nil)
	slow := slowProxy(t, sinks[0], fmt.Sprintf(`{"type": "latency", "attributes": {"latency": %d}}`, delay.Milliseconds()))
	for _, name := range []string{"requests", "open", "connects"} {
		t.Run(name, func(t *testing.T) {
			spec := short(slow)[name]
			spec.Duration = 10 * delay
			if name == "open" {
				spec.Conns, spec.Rate = 16, 50 // these could do 500
			}
			p50, p99, r := quantiles(t, spec)
			// Three times as much leaves room for a busy machine; a harness that
			// measured something else would be off by far more.
			if p50 < delay || p50 > 3*delay || p99 < p50 {
				t.Errorf("p50 %v, p99 %v through a proxy that takes %v", p50, p99, delay)
			}
			if name == "requests" {
				most := 3 * r.Elapsed.Seconds() / delay.Seconds()
				if got := float64(r.Ops); got > most+3 || got < most/4 {
					t.Errorf("%v requests; 3 connections can make %.0f", got, most)
				}
			}
		})
	}
}

// TestOpenLoopDoesNotOmit asks a proxy that takes 20 ms for more than one
// connection can carry: the wait for the connection must count.
func TestOpenLoopDoesNotOmit(t *testing.T) {
	sinks := serve(t, nil)
	slow := slowProxy(t, sinks[0], `{"type": "latency", "attributes": {"latency": 20}}`)
	spec := short(slow)["open"]
	spec.Conns, spec.Rate, spec.Duration = 1, 200, 300*time.Millisecond // it can do 50
	p50, _, _ := quantiles(t, spec)
	if p50 < 50*time.Millisecond {
		t.Errorf("p50 is %v, as if requests that were due had not waited", p50)
	}
}

func TestNarrowProxyShows(t *testing.T) {
	sinks := serve(t, nil)
	const rate = 20_000 // KB/s
	narrow := slowProxy(t, sinks[0], fmt.Sprintf(`{"type": "bandwidth", "stream": "downstream", "attributes": {"rate": %d}}`, rate))
	spec := short(narrow)["download"]
	spec.Conns, spec.Warmup, spec.Duration = 1, 300*time.Millisecond, 700*time.Millisecond
	r, err := Run(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if got := float64(r.Bytes) / r.Elapsed.Seconds() / 1e3; got < rate/2 || got > rate*1.5 {
		t.Errorf("%.0f KB/s through a proxy that lets %d through", got, rate)
	}
}
