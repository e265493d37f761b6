// Package dataplane relays TCP connections from listeners that come and go to
// the backends that a route.Table names.
//
//	control plane ── Publish ──► atomic.Pointer[route.Table]      goroutines
//	                   │                     ▲                    that may block,
//	                   ▼ poke                │ one load per       lock and log
//	                 binder                  │ attempt to connect
//	 ──────────────────│ post ───────────────│────────────────────────────────
//	                   ▼                     │                    N loops that
//	loop 0 … loop N-1: Poller ► inner epoll set ► sessions        may not
//
// # A loop
//
// A loop is one goroutine that owns a SO_REUSEPORT socket of every listener,
// the sessions it accepted, a timer wheel, and a stock of buffers and pipes.
// Nothing of that is locked, because nobody else touches it: whatever must run
// on a loop is a method of type loop, and other goroutines reach it through
// loop.post. The goroutine runs gnet's Poller, which blocks when there is
// nothing to do and runs posted tasks. The loop's own descriptors are in an
// epoll set of its own, which the Poller watches as a single descriptor:
//
//	Poller.Polling ─► work: ┌► epoll_wait (raw, at most 1 ms, holds the P)
//	   ▲                    │  events ► ready list ► timers    (a batch)
//	   │                    └─ until silent or a task waits; after 1 ms yield
//	   └── posted tasks, block ◄───────────────┘
//
// The raw wait is what makes it fast: between two messages of a stream, to
// park in a blocking system call costs two trips through the scheduler. It is
// bounded, so the collector and other goroutines wait a millisecond at most, and
// left out while there are fewer Ps than loops (GOMAXPROCS follows the limits of
// a cgroup at run time).
// Between lone messages in quick succession the loop does not sleep at all for a
// moment (BusyPoll): there, most of the time went into waking it on another CPU.
//
// # The life of a connection
//
//	accept   the listener's route is looked up once; limits and the allow list
//	         are checked; a backend is picked                       (listener.go)
//	connect  non-blocking from the same loop; refused, unreachable or timed out
//	         means the next backend of the newest table, as does one that left
//	         the table meanwhile or that would lead back to dill; none left
//	         resets the client                                          (dial.go)
//	relay    copy through the loop's one scratch buffer; a stream that fills it
//	         three times in a row moves to splice; what the far side does not
//	         take waits in a pooled buffer or pipe, and until it is gone nothing
//	         more is read                                              (relay.go)
//	finish   FIN passes as FIN, RST as RST, each after all that came before it
//	         is delivered; a session that dill ends is reset          (finish.go)
//
// A session keeps its backend and its listener's route as of the last attempt to
// connect, never the table. A listener that is gone from the table leaves those
// that still connect the last route it had, and they are drained like the
// others. A route that waits for host names drains nobody before they are known.
// Events are hints about a slot and its generation; calls are what tells. Session
// sockets are edge-triggered: an edge is remembered in sideFlags until a call says
// EAGAIN or comes up short, and a session that stops on its quota waits in the
// loop's ready queue, since its edge will not come again.
//
// # The order of service
//
// Small messages go with their event. An event of a session that splices only
// puts it in the ready queue; the loop gives the oldest there one turn, and looks
// at its epoll set again before the next. So a message never stands behind more
// than one turn of bulk (relayQuota in each direction), and bulk has a turn for
// each look, however many messages come.
//
// # Near and far
//
// A stream that splices to a peer on this host, or behind a veth pair, gets a
// small send buffer (NearBuffer): what is in flight then stays in the processor's cache. It is
// judged once, and looked at again each second. Far peers have the kernel's own
// tuning (near.go).
//
// # Who owns what
//
//	listening socket   binder until posted, then the loop's listener
//	client, upstream   the session, from accept and from connect to free
//	pipe               the pipe pool; a flow while bytes are in it
//	buffer             the buffer pool; a flow while bytes are in it
//	route.Table        nobody: immutable; the garbage collector frees it
//	counts, cursors    route.ListenerState and BackendState: atomics that
//	                   outlive the table
//
// # Descriptors
//
// Budget divides the limit of open files: a reserve that the data plane never
// uses, then listeners on each loop, then clients, then pipes. The binder sets
// what that allows whenever ports open or close. Beyond it clients are reset, or
// wait in the kernel's queue if the limit on them is switched off. Where the
// budget does not hold, because the rest of the process took more, a loop's
// reserve descriptor is the upstream leg of a client that was accepted, or lets
// the next one in to be reset.
//
// # What must not go on a loop
//
// In steady state: no allocation, no lock, no channel, no log line, no name
// lookup, no call that may block. What is worth a log line goes to the reporter
// without waiting for it; counters tell the rest. The tests in e2e_mallocs_test.go
// and the watchdog (batches longer than 100 ms) hold this.
package dataplane
