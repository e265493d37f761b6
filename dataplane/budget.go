package dataplane

import (
	"math"
	"sync/atomic"
)

// maxReserve is how many descriptors the data plane leaves to the rest of the
// process: sources, Peek, the state file and what a client library opens.
const maxReserve = 256

// Reserve is how many of a process's open files the data plane never uses, so
// that the control plane works when the data plane is full: 256, and a quarter
// where there are few.
func Reserve(openFiles uint64) uint64 { return min(maxReserve, openFiles/4) }

const (
	// loopFiles is what a loop has open by itself: two of its Poller, the inner
	// set, the timer, the reserve, the socket that asks for routes, and a client
	// that is about to be reset.
	loopFiles = 7

	// Of what listeners and loops leave, pipes get one part in pipeShare, but
	// pipesFew a loop as long as that is no more than one part in fewShare.
	pipeShare = 100
	pipesFew  = 8
	fewShare  = 16

	// One part in spareShare stays free for listeners to come, of one at least.
	spareShare = 400
)

// Budget divides a limit of open files: how many clients may be served at once,
// and how many pipes one loop may have, with so many listeners open. What is
// scarce goes to clients first; streams without a pipe are copied. There is
// always room for one client, even where there is none.
func Budget(openFiles uint64, loops, listeners int) (clients, pipes int) {
	files := int64(min(openFiles, math.MaxInt32) - Reserve(min(openFiles, math.MaxInt32)))
	free := max(0, files-int64(loops)*int64(loopFiles+listeners))
	each := free / int64(2*loops) // if all of it went to pipes, those of one loop
	share := min(pipesMax, max(each/pipeShare, min(pipesFew, each/fewShare)))
	spare := max(int64(loops), free/spareShare)
	return int(max(1, (free-spare-2*share*int64(loops))/2)), int(share)
}

// budget is an engine's share of the open files, in force now.
type budget struct {
	clients atomic.Int64 // at once
	pipes   atomic.Int64 // of one loop
}

// divide sets what is allowed while so many listeners are open or wait for a
// descriptor, and reports whether there are fewer pipes than before.
func (e *Engine) divide(listeners int) (fewer bool) {
	cfg := e.cfg.Load()
	clients, pipes := math.MaxInt32, pipesMax
	if cfg.OpenFiles > 0 {
		clients, pipes = Budget(cfg.OpenFiles, cfg.Loops, listeners)
	}
	if cfg.MaxConnections > 0 {
		clients = min(clients, cfg.MaxConnections)
	}
	e.budget.clients.Store(int64(clients))
	return e.budget.pipes.Swap(int64(pipes)) > int64(pipes)
}

// room reports whether n more descriptors can be had beside what the data plane
// has open with so many listeners, and what it has promised to pipes.
func (e *Engine) room(listeners, n int) bool {
	cfg := e.cfg.Load()
	if cfg.OpenFiles == 0 {
		return true
	}
	used := int64(cfg.Loops)*(loopFiles+int64(listeners)+2*e.budget.pipes.Load()) + 2*e.sessions.Load()
	return used+int64(n) <= int64(min(cfg.OpenFiles-Reserve(cfg.OpenFiles), math.MaxInt32))
}

// ConnectionLimit is how many clients are served at once now. It follows the
// listeners, which need descriptors, too.
func (e *Engine) ConnectionLimit() int { return int(e.budget.clients.Load()) }
