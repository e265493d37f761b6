package dataplane

import "dill/dataplane/internal/sys"

const (
	// relayQuota is how many bytes one session may move in one direction in a
	// turn of its own, and eventQuota when it is served with its event, among
	// others; less where they are many.
	relayQuota = 1 << 20
	eventQuota = 4 * scratchSize

	// spliceAfter full reads start splicing, copyAfter small splices end it, as
	// does idleFlow without a byte (HAProxy's rules). Only the first read of a
	// wake-up may count against the stream: what is left after a full one is
	// often short, and says nothing.
	spliceAfter = 3
	copyAfter   = 2
	smallSplice = scratchSize / 2
	idleFlow    = 1000 // ms
)

// relay moves what can be moved in both directions and then sees to the ends
// of the streams. It may end the session.
func (l *loop) relay(s *session) {
	l.pump(s, client)
	l.pump(s, upstream)
	l.settle(s)
}

// pump moves bytes from one side to the other until one of them cannot go on
// or the quota is used up. Nothing is read while the far side has not taken
// what was read before: a reader that stops stops its sender.
func (l *loop) pump(s *session, from int) {
	src, dst, f := &s.side[from], &s.side[1-from], &s.flow[from]
	for quota := l.quota; ; {
		if dst.has(failed) {
			l.dropPending(f)
			l.discard(s, src, quota)
			return
		}
		if f.pending() && !l.flush(s, f, dst) {
			if dst.has(failed) {
				continue
			}
			return
		}
		if src.has(eof) || !src.has(readable) {
			return
		}
		if quota <= 0 {
			l.later(s)
			return
		}
		if l.now-f.read > idleFlow {
			f.full, f.splicing = 0, l.cfg.Splice == SpliceAlways
		}
		var n int
		first := quota == l.quota
		if f.splicing {
			n = l.splice(s, src, dst, f, first)
		} else {
			n = l.copy(src, dst, f, first)
		}
		if n > 0 {
			f.read, s.moved = l.now, l.now
			quota -= n
		}
	}
}

// copy moves one read's worth through the scratch buffer and returns how much
// it read. Only what dst does not take at once gets a buffer of its own.
func (l *loop) copy(src, dst *side, f *flow, first bool) int {
	n, e := sys.Recv(src.fd, l.scratch)
	if n <= 0 || e != 0 {
		src.ended(e)
		return 0
	}
	l.stats.CopiedBytes.Add(uint64(n))
	if n < len(l.scratch) {
		if first {
			f.full = 0
		}
		switch {
		case src.has(urgent | gone | failed):
			// Stopped at a mark or before an error, of which no edge will tell.
		case src.has(hinted):
			src.set(eof) // the FIN that was announced came right behind
		default:
			src.clear(readable) // the next byte brings an edge
		}
	} else if f.full++; f.full >= spliceAfter && l.pipes.ask > 0 {
		f.full, f.small, f.splicing = 0, 0, true
	}
	sent := l.send(dst, l.scratch[:n])
	l.passed = sent == n && n < len(l.scratch)
	if sent < n && !dst.has(failed) {
		f.buf = l.buffers.get(l.scratch[sent:n])
	}
	return n
}

// splice moves one pipe's worth without copying and returns how much it read.
// The pipe is empty on entry, so EAGAIN can only mean that src is, or that a
// mark is next.
func (l *loop) splice(s *session, src, dst *side, f *flow, first bool) int {
	p := l.pipes.get(l.now)
	if p == nil {
		l.stats.PipeShortage.Add(1)
		f.splicing = false
		return l.copy(src, dst, f, first)
	}
	n, e := sys.Splice(src.fd, p.w, min(p.size, l.quota))
	if n <= 0 || e != 0 {
		l.pipes.put(p)
		if e == sys.EAGAIN && !src.has(urgent) {
			src.ended(e)
			return 0
		}
		// Nothing else need be the end: splice does not get past the mark of an
		// urgent byte, and says there EAGAIN, the socket's error or 0, whatever is
		// queued behind it. A read tells.
		switch e {
		case 0, sys.EAGAIN, sys.EINVAL, sys.ENOMEM, sys.EPERM:
		default:
			src.set(failed) // the call consumed the error, the read will find none
		}
		f.splicing = false
		return l.copy(src, dst, f, first)
	}
	if f.near != far {
		l.window(f, dst)
	}
	l.stats.Splices.Add(1)
	l.stats.SplicedBytes.Add(uint64(n))
	p.n = n
	f.pipe = p
	switch {
	case n >= smallSplice:
		f.small = 0
	case first:
		if f.small++; f.small >= copyAfter && l.cfg.Splice != SpliceAlways {
			f.splicing, f.full = false, 0
		}
	}
	l.flush(s, f, dst)
	return n
}

// ended notes why a read brought nothing: e, or the end of the stream.
func (d *side) ended(e sys.Errno) {
	switch e {
	case 0:
		d.set(eof)
		if d.has(gone) {
			d.confirmReset()
		}
	case sys.EAGAIN:
		d.clear(readable | urgent) // every mark that can be reached is behind
	default:
		d.set(eof | failed)
	}
}

// flush writes what is pending in f and reports whether all of it went.
func (l *loop) flush(s *session, f *flow, dst *side) bool {
	if !dst.has(writable) {
		return false
	}
	if b := f.buf; b != nil {
		n := l.send(dst, b.data[b.off:b.end])
		if b.off += n; n > 0 {
			s.moved = l.now
		}
		if b.off < b.end {
			return false
		}
		f.buf = nil
		l.buffers.put(b)
		return true
	}
	p := f.pipe
	dst.prompt()
	for p.n > 0 {
		n, e := sys.Splice(p.r, dst.fd, p.n)
		if n <= 0 || e != 0 {
			dst.refused(e)
			return false
		}
		p.n -= n
		dst.set(written)
		s.moved = l.now
	}
	f.pipe = nil
	l.pipes.put(p)
	return true
}

// send writes p, once, and returns how much dst took.
func (l *loop) send(dst *side, p []byte) int {
	dst.prompt()
	n, e := sys.Send(dst.fd, p)
	if e != 0 {
		dst.refused(e)
		return 0
	}
	dst.set(written)
	if n < len(p) {
		dst.clear(writable) // the kernel promises an edge now
	}
	return n
}

// prompt turns Nagle's algorithm off before the second write. The first goes
// out at once in any case, and a session that ends after it has saved the call.
func (d *side) prompt() {
	if d.f&(nodelay|written) == written {
		sys.NoDelay(d.fd)
		d.set(nodelay)
	}
}

// refused notes why a write took nothing.
func (d *side) refused(e sys.Errno) {
	if e == sys.EAGAIN || e == 0 {
		d.clear(writable)
		return
	}
	// The call consumed the socket's error. Whatever arrived before the reset
	// can still be read, and then a 0 that must not pass for a clean end.
	d.set(failed | readable | hinted)
}

// discard reads src and throws it away: its bytes have nowhere to go, but a
// close with unread input would lose what is queued the other way.
func (l *loop) discard(s *session, src *side, quota int) {
	for src.has(readable) && !src.has(eof) {
		if quota <= 0 {
			l.later(s)
			return
		}
		n, e := sys.Discard(src.fd, quota)
		if n <= 0 || e != 0 {
			src.ended(e)
			continue
		}
		quota -= n
	}
}

func (l *loop) dropPending(f *flow) {
	if f.buf != nil {
		l.buffers.put(f.buf)
		f.buf = nil
	}
	if f.pipe != nil {
		l.pipes.put(f.pipe)
		f.pipe = nil
	}
}
