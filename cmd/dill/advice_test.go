package main

import (
	"bytes"
	"log/slog"
	"math"
	"strings"
	"testing"

	"dill/controlplane/config"
	"dill/dataplane"
)

// TestAdvice: what this host keeps dill from doing is told in one line each,
// and nothing where there is nothing to tell.
func TestAdvice(t *testing.T) {
	const plenty = 1 << 20
	unreserved, reserve := dataplane.Unreserved(1, 65535)
	if unreserved == "" {
		t.Log("this host reserves every port")
	}
	for _, tt := range []struct {
		name    string
		files   uint64
		min     int
		max     int
		clients int
		want    []string // in its only line; nil = no line
	}{
		{"all is well", plenty, 1, 1, config.AutoConnections, nil},
		{"a budget near zero", 64, 1, 1, config.AutoConnections, []string{"level=WARN", "open_files=64", "max_connections=1", "LimitNOFILE"}},
		{"more clients than files", 4096, 1, 1, 5000, []string{"level=WARN", "open_files=4096"}},
		{"source ports", plenty, 1, 65535, config.AutoConnections, []string{"level=WARN", unreserved, "sysctl -w net.ipv4.ip_local_reserved_ports=" + reserve, "listeners.port_max"}},
	} {
		var c config.Config
		c.Dataplane.Loops, c.Dataplane.MaxConnections = 2, tt.clients
		c.Listeners.PortMin, c.Listeners.PortMax = tt.min, tt.max
		var out bytes.Buffer
		advise(&c, tt.files, slog.New(slog.NewTextHandler(&out, nil)))
		lines := strings.Count(out.String(), "\n")
		if tt.want == nil || tt.name == "source ports" && unreserved == "" {
			if lines != 0 {
				t.Errorf("%s: %s", tt.name, &out)
			}
			continue
		}
		if lines != 1 {
			t.Errorf("%s: %d lines", tt.name, lines)
		}
		for _, want := range tt.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: %q does not say %q", tt.name, &out, want)
			}
		}
	}
}

// TestBeyondReserve: connections to Consul that the data plane's reserve is not
// made for are taken from its budget.
func TestBeyondReserve(t *testing.T) {
	for _, tt := range []struct {
		enabled     bool
		connections int
		files, want uint64
	}{
		{true, 150, 20_000, 0}, {true, 20, 20_000, 0}, {true, 1000, 20_000, 850}, {false, 1000, 20_000, 0}, {true, 8192, 1024, 256},
	} {
		var c config.Config
		c.Consul.Enabled, c.Consul.MaxConnections = tt.enabled, tt.connections
		if got := beyondReserve(&c, tt.files); got != tt.want {
			t.Errorf("%+v: %d", tt, got)
		}
	}
}

// TestConsulFiles: connections to Consul are as many as configured where the
// reserve is whole, and fit in it where it is not.
func TestConsulFiles(t *testing.T) {
	for _, tt := range []struct {
		connections int
		files       uint64
		least, most int
	}{
		{150, 20_000, 150, 256}, {150, 1024, 150, 256}, {150, 512, 64, 128}, {150, 256, 30, 64}, {150, 64, 1, 8},
		{1000, 20_000, 1000, 1106}, {8192, 1024, 150, 448}, {150, 0, 1, 1}, {150, math.MaxUint64, 150, 256},
	} {
		var c config.Config
		c.Consul.Enabled, c.Consul.MaxConnections = true, tt.connections
		if got := consulFiles(&c, tt.files); got < tt.least || got > tt.most {
			t.Errorf("%+v: %d", tt, got)
		}
	}
}
