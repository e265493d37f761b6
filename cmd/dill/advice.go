package main

import (
	"cmp"
	"log/slog"
	"runtime"

	"dill/controlplane/config"
	"dill/dataplane"
)

// fewClients is the number of clients below which a limit of open files is worth
// a line although nobody asked for more: the usual limits, 1,024 and up, allow it.
const fewClients = 256

// advise warns of what this host, as it is set up, keeps dill from doing: one
// line each, with what to set.
func advise(c *config.Config, openFiles uint64, log *slog.Logger) {
	loops := cmp.Or(c.Dataplane.Loops, c.Runtime.GOMAXPROCS, runtime.GOMAXPROCS(0))
	clients, _ := dataplane.Budget(openFiles-beyondReserve(c, openFiles), loops, 0)
	if clients < max(fewClients, c.Dataplane.MaxConnections) {
		log.Warn("the limit of open files is low for the clients to be served; raise it (ulimit -Hn, LimitNOFILE)",
			keyOpenFiles, openFiles, keyLimit, clients)
	}
	ports, reserve := dataplane.Unreserved(c.Listeners.PortMin, c.Listeners.PortMax)
	if ports != "" {
		log.Warn("any outgoing connection can take a port that a service may ask for; reserve them, or lower listeners.port_max",
			keyPorts, ports, keyFix, "sysctl -w net.ipv4.ip_local_reserved_ports="+reserve)
	}
}
