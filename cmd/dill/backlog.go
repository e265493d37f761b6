package main

import (
	"io"
	"sync"
	"time"
)

const (
	// backlogMost bounds what waits for whoever reads the log: some thousands of
	// lines.
	backlogMost = 1 << 20

	// backlogEnd is how long the end waits for them to be read.
	backlogEnd = time.Second
)

// backlog is the log's way out. It writes on a goroutine of its own, which lives
// while there is something to write: standard error may be a pipe that nobody
// reads, and that must stop neither a signal nor a route. What does not fit is
// dropped, and told of as soon as there is room.
type backlog struct {
	to      io.Writer
	dropped func(lines int) // tells of them

	mu      sync.Mutex
	waiting []byte
	lost    int
	done    chan struct{} // closed when the goroutine ends; nil = there is none
}

// Write takes one line. It never blocks and never fails.
func (b *backlog) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting)+len(line) > backlogMost {
		b.lost++
		return len(line), nil
	}
	b.waiting = append(b.waiting, line...)
	if b.done == nil {
		b.done = make(chan struct{})
		go b.drain(b.done)
	}
	return len(line), nil
}

// drain writes until nothing waits. An error is nobody's: the log is where it
// would be told.
func (b *backlog) drain(done chan struct{}) {
	defer close(done)
	for {
		b.mu.Lock()
		if len(b.waiting) == 0 && b.lost == 0 {
			b.done = nil
			b.mu.Unlock()
			return
		}
		lines, lost := b.waiting, b.lost
		b.waiting, b.lost = nil, 0
		b.mu.Unlock()
		_, _ = b.to.Write(lines)
		if lost > 0 {
			b.dropped(lost)
		}
	}
}

// flush waits until everything is written, but not for ever.
func (b *backlog) flush() {
	b.mu.Lock()
	done := b.done
	b.mu.Unlock()
	if done == nil {
		return
	}
	select {
	case <-done:
	case <-time.After(backlogEnd):
	}
}
