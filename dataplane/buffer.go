package dataplane

// scratchSize is the read buffer that all sessions of a loop share. Below
// 64 KiB a splice costs more than the copy it saves (HAProxy draws the same
// line), so a full scratch buffer is the sign that splicing would pay.
const scratchSize = 64 << 10

// buffer holds bytes that a socket did not take at once: data[off:end] is
// still to be written. It exists only while it holds something.
type buffer struct {
	data     []byte
	off, end int
	next     *buffer // free list
}

// bufferClasses are the sizes of pooled buffers. A stalled reader costs the
// smallest that holds its rest, not a full scratch buffer.
var bufferClasses = [...]int{4 << 10, 16 << 10, scratchSize}

// bufferKeep bounds the idle memory of a loop's pool, in bytes.
const bufferKeep = 4 << 20

// bufferPool is one loop's stock of buffers.
type bufferPool struct {
	free [len(bufferClasses)]*buffer
	kept int // bytes on the free lists
	held int // bytes in buffers that sessions hold
}

// get returns a buffer that holds a copy of p, at most scratchSize bytes.
func (bp *bufferPool) get(p []byte) *buffer {
	class := 0
	for len(p) > bufferClasses[class] {
		class++
	}
	b := bp.free[class]
	if b == nil {
		b = &buffer{data: make([]byte, bufferClasses[class])}
	} else {
		bp.free[class], b.next = b.next, nil
		bp.kept -= len(b.data)
	}
	bp.held += len(b.data)
	b.off, b.end = 0, copy(b.data, p)
	return b
}

// put takes b back; the caller must not use it again.
func (bp *bufferPool) put(b *buffer) {
	bp.held -= len(b.data)
	if bp.kept+len(b.data) > bufferKeep {
		return // left to the garbage collector
	}
	class := 0
	for len(b.data) > bufferClasses[class] {
		class++
	}
	bp.kept += len(b.data)
	b.next, bp.free[class] = bp.free[class], b
}
