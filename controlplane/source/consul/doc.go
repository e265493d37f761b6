// Package consul watches the services of a Consul datacenter that ask for a
// listener: those with the tag "dill".
//
// # How it asks
//
// One blocking query on the catalog tells which services there are. Each of
// them has a blocking query of its own for its instances, so a change costs the
// catalog's answer and one more. Agents limit the connections from one address,
// and over HTTP/1.1 each blocking query holds one, so there is a budget:
//
//	          max_connections (150)
//	┌──────────────┬──────────────────────┬──────────────────┐
//	│ catalog 1    │ services 132         │ reserve 16       │
//	│ hint    1    │ one each             │ fetch, sweep,    │
//	│              │                      │ Confirm          │
//	└──────────────┴──────────────────────┴──────────────────┘
//
// Services beyond it are fetched when something says that they changed: the
// catalog for their tags; for their checks the hint, one blocking query on all
// checks whose answer serves for nothing else; and for instances without checks
// a sweep, which asks the nodes what is registered on them. It follows a move of
// the catalog's index: within seconds, or at once if nothing explains the move
// and sweeps have not been in vain of late (see riddle). Over HTTP/2 a connection
// carries many queries, and the budget is as good as unlimited. An agent that
// allows fewer connections than configured, because others at this address hold
// some, makes it smaller.
//
// # What it believes
//
// A [source.Snapshot] always holds the last good state of every service.
// Nothing is taken away by a failure, of whatever kind:
//
//   - A broken connection ends the session: every connection is dropped, and
//     all is read anew over fresh ones. Until then the snapshot carries Err.
//     One that is silent breaks when a query's deadline is over, so a parted
//     network is noticed within a minute, and within 5 s that it is whole again.
//   - An answer that is no good (a status, truncated or nonsensical JSON) leaves
//     what it is about as it was, and is asked for again, ever more slowly. A
//     service whose answer that is becomes Stale by itself, and so does, without
//     the hint, each one beyond the budget; the source is not current when the
//     catalog cannot be read.
//   - What another source knew before a reload or a restart ([Source.Inherit]) is
//     what this one begins with: a service that the catalog lacks is gone if
//     nothing is hidden in that, else it is asked for by name.
//   - An answer filtered by ACLs proves the presence of what is in it and the
//     absence of nothing. Agents stream some answers, and filter those without
//     saying so: under ACLs, what such an answer lacks is asked for again.
//   - A catalog that is empty where there was something is read once more, with
//     the word of a quorum. A service that is in the catalog without an instance
//     keeps those it had until that was asked for again, too.
//   - After an index that went back, and after an outage, absence is Suspect.
//
// # Who owns what
//
//	Source   constants, counters; everything in it is safe for all goroutines
//	view     what is known, across sessions      the goroutine of Source.Run
//	session  what is done, with one client       the same, in session.run
//	watch    one blocking query, its cursor      a goroutine each; reaches the
//	         and its back-off                    session by session.post
//	client   one set of connections              safe for all goroutines
//	token    the ACL token; its file is read by  safe for all goroutines
//	         token.follow, and nobody waits
package consul
