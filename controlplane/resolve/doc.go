// Package resolve turns the host names of instances into addresses, away from
// every path that must not wait. Lookup only ever reads a cache: an unknown
// name is ErrPending and starts a lookup in the background, and whoever cares
// is told once the answer is there or differs from the one before.
//
// A name that once resolved keeps its last good addresses whatever the name
// server does later: a resolver that fails proves nothing about an instance
// that its source still announces.
//
// Names that nobody asks for any more are forgotten: see Resolver.Sweep.
package resolve
