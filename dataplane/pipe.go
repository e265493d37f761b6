package dataplane

import (
	"sync/atomic"

	"dill/dataplane/internal/sys"
)

// pipe carries bytes from socket to socket inside the kernel. A session
// borrows one only while bytes are in it.
type pipe struct {
	r, w int32
	size int // capacity the kernel granted, bytes
	n    int // bytes in flight
	next *pipe
}

const (
	// pipeMin is the least a pipe must hold to be worth its calls. Beyond
	// fs.pipe-user-pages-soft an unprivileged user gets pipes of a page or two.
	pipeMin = scratchSize

	pipesKept = 16  // idle pipes a loop keeps
	pipesMax  = 256 // pipes a loop has open at once, at most; then it copies

	// pipeRetry is how long a loop copies after it could not get a pipe, ms.
	pipeRetry = 1000
)

// pipePool is one loop's stock of pipes.
type pipePool struct {
	ask     int           // size asked of the kernel; 0 = never splice
	most    *atomic.Int64 // pipes open at once, see budget; at most pipesMax
	free    *pipe
	kept    int
	open    int   // kept and borrowed
	retryAt int64 // no new pipe before this time, ms
}

// get lends an empty pipe, or nil when the machine has none to spare: the
// caller copies instead.
func (pp *pipePool) get(now int64) *pipe {
	if p := pp.free; p != nil {
		pp.free, p.next = p.next, nil
		pp.kept--
		return p
	}
	if pp.ask == 0 || pp.open >= int(pp.most.Load()) || now < pp.retryAt {
		return nil
	}
	r, w, size, e := sys.Pipe(pp.ask)
	if e != 0 {
		pp.retryAt = now + pipeRetry
		return nil
	}
	if size < pipeMin {
		sys.Close(r)
		sys.Close(w)
		pp.retryAt = now + pipeRetry
		return nil
	}
	pp.open++
	return &pipe{r: r, w: w, size: size}
}

// put takes p back. One with bytes left in it is closed: its next borrower
// would deliver them to a stranger. So is one too many, since the budget shrank.
func (pp *pipePool) put(p *pipe) {
	if p.n > 0 || pp.kept >= pipesKept || pp.open > int(pp.most.Load()) {
		pp.close(p)
		return
	}
	p.next, pp.free = pp.free, p
	pp.kept++
}

func (pp *pipePool) close(p *pipe) {
	sys.Close(p.r)
	sys.Close(p.w)
	p.r, p.w = -1, -1
	pp.open--
}

// shed closes idle pipes until no more are open than may be.
func (pp *pipePool) shed(most int) {
	for pp.free != nil && pp.open > most {
		p := pp.free
		pp.free, p.next = p.next, nil
		pp.kept--
		pp.close(p)
	}
}

// drain closes every idle pipe.
func (pp *pipePool) drain() { pp.shed(0) }
