package consul

import (
	"strings"
	"sync/atomic"
)

// Counters is what the source has done since it was made.
type Counters struct {
	// Requests sent, by endpoint.
	Catalog uint64 // /v1/catalog/services
	Health  uint64 // /v1/health/service/<name>
	State   uint64 // /v1/health/state/any
	Nodes   uint64 // /v1/catalog/nodes and /v1/catalog/node-services/<name>

	Connections     int // open now
	PeakConnections int // most open at once

	WakeUps   uint64 // blocking queries that came back with a new index
	Snapshots uint64 // handed to the sink
	Sessions  uint64 // times that all connections were made anew
}

// Requests is the sum over all endpoints.
func (c Counters) Requests() uint64 { return c.Catalog + c.Health + c.State + c.Nodes }

// counters are Counters while they count.
type counters struct {
	catalog, health, state, nodes atomic.Uint64
	connections                   gauge
	wakeUps, snapshots, sessions  atomic.Uint64
}

// request counts one for the endpoint that path is of.
func (c *counters) request(path string) {
	switch {
	case strings.Contains(path, "/v1/catalog/services"):
		c.catalog.Add(1)
	case strings.Contains(path, "/v1/health/service/"):
		c.health.Add(1)
	case strings.Contains(path, "/v1/health/state/"):
		c.state.Add(1)
	case strings.Contains(path, "/v1/catalog/node"):
		c.nodes.Add(1)
	}
}

func (c *counters) snapshot() Counters {
	return Counters{
		Catalog: c.catalog.Load(), Health: c.health.Load(), State: c.state.Load(), Nodes: c.nodes.Load(),
		Connections: int(c.connections.now.Load()), PeakConnections: int(c.connections.peak.Load()),
		WakeUps: c.wakeUps.Load(), Snapshots: c.snapshots.Load(), Sessions: c.sessions.Load(),
	}
}

// gauge is a number that goes up and down, and remembers how far up.
type gauge struct{ now, peak atomic.Int64 }

func (g *gauge) add(n int64) {
	now := g.now.Add(n)
	for peak := g.peak.Load(); now > peak && !g.peak.CompareAndSwap(peak, now); {
		peak = g.peak.Load()
	}
}
