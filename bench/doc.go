// Command bench measures dill beside what one would use instead of it, on this
// machine:
//
//	make bench                                 everything, under 30 minutes
//	make bench-quick                           a look, under 2 minutes
//	make bench SCENARIOS=rr1,bulk* PEERS=dill,nginx PAIRS=9 DURATION=5s
//	go run ./bench compare OLD.json NEW.json   what has changed
//	go run ./bench readme                      the latest results into bench/README.md
//	go run ./bench list                        scenarios and peers
//	go run ./bench -h                          all settings
//
// While tuning, one wants few rows and no Consul:
//
//	go run ./bench -source file -scenarios bulk*,rr1 -peers dill,haproxy -out '' -set DILL_DATAPLANE_LOOPS=1
//
// A change is held against the dill before it in the same rounds, not against
// figures of another day:
//
//	go run ./bench -source file -scenarios bulk*,rr*,mixed*,conn,idle -peers dill -against OLD/bin/dill -pairs 15 -out ''
//
// # How it measures
//
// A turn is: start one peer alone, warm it up, measure for DURATION, end it. A
// round is a turn of each peer with the same sink, in an order that reverses from
// round to round, so that a machine that slowly gets faster or slower favours
// nobody. dill's value divided by a peer's value of the same round is one ratio,
// and a target is met or not by the median of the ratios. If the middle half of
// them lies on both sides of the target, as many rounds are added once, of those
// whom it is about; if it still does, the verdict is "undecided".
//
// Client, proxy and sink are three processes. The client and the sink check what
// they receive (package wire); the first wrong byte, lost connection or error ends
// the scenario and makes the exit status 1.
//
//	client ──► proxy ──► sink        packages load, peer, sink
//	   └ reads the proxy's CPU clock when the window opens and closes
//
// The peer "direct" is no proxy at all: client and sink alone. A run says by how
// much they then do more than with the fastest proxy. Were it little, they would
// be what limits, and the ratios would say less than they seem to.
//
// The peer "floor" is the other end of the scale: a loop that does nothing but
// recv and send. The rows of small messages say how near dill comes to it.
//
// Processor time is the scheduler's own clock of the proxy's processes, memory is
// VmRSS, descriptors are the entries of /proc/PID/fd, latencies are HdrHistograms.
package main
