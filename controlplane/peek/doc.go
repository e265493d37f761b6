// Package peek answers whoever connects with the routing table as text and
// closes the connection: "nc host port" is the whole client.
//
//	0.0.0.0:4444
//	├ round_robin
//	├──➤ 192.168.10.17:1234
//	├──➤ 192.168.10.23:2042
//
// Listeners come in the order of their address, then port, numerically. A backend
// behind a proxy has "socks5://host:port ─➤ " before it. Below the table follow,
// each only if there is something to say: ports that are not bound, claims that
// were refused, ports that nothing passes for, stale sources with their age,
// a state file that cannot be written, removals that wait, lingering listeners, ejected backends. An empty table says
// so and names the likely cause.
//
// The server reads nothing that matters, holds no lock of anybody else while
// it renders, and bounds what clients can cost: connections at once, time per
// connection, renderings a second. Everything foreign is escaped.
package peek
