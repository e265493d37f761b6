// Package nomad is the source that watches Nomad's own service discovery: the
// services of jobs with provider = "nomad".
//
//	        reports                    ┌─ list loop: blocking /v1/services
//	Run ◀───────────────────────────── ┤
//	 │ owns the catalog, tells the sink└─ one loop per service with the tag "dill":
//	 └ starts and stops the loops         blocking /v1/service/<name>
//
// The list says which services there are and what tags their instances have
// between them; a service's own query has the instances. Nomad knows no health
// here: what is registered passes, and Nomad itself removes what does not run.
//
// Nomad allows a client 100 connections by default, and a blocking query holds
// one. So at most maxWatches services are watched; the others are read again
// whenever the list's query reports a change, at most once a second each.
//
// # Trust
//
// The index of an answer that is lower than one before means another history: a
// restored snapshot, a new server. The snapshots are then suspect for a while.
// So they are after an answer by a server without a leader (stale mode). Any
// failure – transport, status, an answer that is no list – leaves everything as
// it was. One of the list is in Snapshot.Err; an answer about a service that is
// no good makes that one stale, and no other. One failure of the transport drops
// all connections, since they are to the same server, and only the list loop
// tries on, and reports it; the others wait for its success.
//
// With the namespace "*" the names of services are "<namespace>/<name>".
package nomad
