// Package publish decides what is served. It takes the snapshots of all
// sources, settles what may be removed and when, compiles the rest into a
// route.Table and hands it to the data plane.
//
// One goroutine, Publisher.Run, owns all state. Every public method only
// leaves something for it and returns.
//
//	sources ──Sink──▶ mailbox ─▶ feed: merge, settle ─▶ compile ─▶ linger ─▶ guard ─▶ table ─▶ Plane
//	          (newest per source wins)       ▲                                │
//	                                         └──────────── Confirm ◀──────────┘
//
// The rules, in the order they apply:
//
//   - Presence counts at once, absence has to be believed. A snapshot that is
//     unsynced or carries an error adds and changes, but never removes; nor does
//     a synced one remove anything of a service that it calls stale.
//   - What is known outlives whoever read it. A Source that takes the place of
//     another, or begins with the state of a former life, inherits the services
//     of its scope until it has read each, or proven its absence. Those of
//     another scope go with its first full reading, through settling and guard.
//     Origin.MaxStale bounds how old anything may get that is served.
//   - After something that makes absence doubtful (the source was unreachable,
//     its index went back, it says Suspect) each removal waits Settings.Settle
//     and happens only if it is still true then. After a restart of dill, and
//     for a Source that takes another's place, that goes for what the first
//     reading lacks.
//   - A service whose instances are all registered but not served keeps its
//     listener for Settings.Linger, and tries those that passed last, where
//     and as they are registered now. Where none of those is registered any
//     more it tries the others, although they never passed: the only instance
//     of a service is replaced by one that is critical until its first check.
//     Those in maintenance are being drained by somebody: they leave at once.
//   - An open listener whose instances have a host name, or a proxy's, that has no
//     answer yet stays open and does not drain what it had, if need be without
//     backends. Waiting ends with the answer, and after Settings.Linger or
//     resolve.Timeout, whichever is longer. Lingering goes on meanwhile.
//   - A table that would close a large share of the listeners at once waits
//     until a consistent read of the source confirms it. A source that cannot
//     confirm, such as a file, is believed: its edit was deliberate.
//   - The first change is published at once, what follows in a burst at most
//     every 50 ms. A table equal to the present one is not published.
package publish
