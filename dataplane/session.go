package dataplane

import (
	"dill/dataplane/internal/sys"
	"dill/dataplane/route"
)

// The two sides of a session, and the index of the flow that each one feeds:
// flow[client] carries what the client sent.
const (
	client   = 0
	upstream = 1
)

// phase is where a session stands.
//
//	free → connecting ⇄ (next backend) → handshaking → relaying → free
//	            └──────────── no backend left, client gone ─────────┘
type phase uint8

const (
	free        phase = iota
	connecting        // a connect is under way, or waits for a file descriptor
	handshaking       // talking to a SOCKS5 proxy
	relaying
)

// sideFlags is what is known of one socket. Readable and writable are memory
// of edges: they are cleared only by a call that could not go on.
//
//	        ┌ eof: its stream ended, by FIN or because it failed
//	socket ─┼ failed: a call told ECONNRESET, EPIPE or another error
//	        └ shut: we have sent FIN to it
type sideFlags uint16

const (
	readable sideFlags = 1 << iota
	writable
	hinted  // EPOLLRDHUP, HUP or ERR was seen: no edge will tell of more
	gone    // ERR was seen, or HUP before our FIN: its end may be a reset
	eof     // reading is over
	failed  // reset for good, whatever later calls return
	shut    // FIN sent
	written // one segment was sent; the next one wants TCP_NODELAY
	nodelay
	urgent // an urgent byte came: reads stop short at its mark
)

// side is one socket of a session, which owns the descriptor; -1 is none.
type side struct {
	fd int32
	f  sideFlags
}

// take hands the descriptor over, for good.
func (d *side) take() int32 {
	fd := d.fd
	d.fd = -1
	return fd
}

func (d *side) has(f sideFlags) bool { return d.f&f != 0 }
func (d *side) set(f sideFlags)      { d.f |= f }
func (d *side) clear(f sideFlags)    { d.f &^= f }

// flow is one direction. At most one of buf and pipe is set, and only while
// it holds bytes that the far side has not taken.
type flow struct {
	buf  *buffer
	pipe *pipe

	read     int64 // when bytes last came in, ms
	full     uint8 // consecutive reads that filled the scratch buffer
	small    uint8 // consecutive splices below half of it
	splicing bool
	near     nearness // of the side it goes to
	looked   uint32   // when that was judged, ms modulo 2³²
}

func (f *flow) pending() bool { return f.buf != nil || f.pipe != nil }

// session is one client and its backend. It lives in a slot of its loop's
// slab, is touched by that loop only, and owns both descriptors.
type session struct {
	gen    uint32 // of the slot; events of an older one are ignored
	slot   int32
	phase  phase
	queued bool // on the loop's ready list

	keepalive bool  // set on the upstream leg
	tries     uint8 // rechecks of a pending reset

	acked uint32 // bytes that both peers had acknowledged, as of the last askPeers

	side [2]side
	flow [2]flow

	dialing *dialing // only before relaying
	ln      *listener
	route   *route.Listener // as of the last attempt to connect; counts and idle limit
	backend *route.Backend

	timer   timer
	born    int64 // accepted, ms
	moved   int64 // the last byte or FIN came, passed or was acknowledged, see askPeers, ms
	drainAt int64 // reset then unless its route is back; 0 = never
	resetAt int64 // pending reset: since when; 0 = none
}

const (
	slabBits = 8 // sessions are allocated 256 at a time and never freed
	slabSize = 1 << slabBits
)

// slab is a loop's sessions. Slots are reused; chunks never move, so that a
// *session stays valid for the loop's life.
type slab struct {
	chunks []*[slabSize]session
	free   []int32
	live   int
}

func (sb *slab) at(slot int32) *session { return &sb.chunks[slot>>slabBits][slot&(slabSize-1)] }

// get returns a blank session with a generation of its own.
func (sb *slab) get() *session {
	if len(sb.free) == 0 {
		base := int32(len(sb.chunks)) << slabBits
		sb.chunks = append(sb.chunks, new([slabSize]session))
		for i := int32(slabSize - 1); i >= 0; i-- {
			s := sb.at(base + i)
			s.slot, s.side = base+i, [2]side{{fd: -1}, {fd: -1}}
			sb.free = append(sb.free, s.slot)
		}
	}
	slot := sb.free[len(sb.free)-1]
	sb.free = sb.free[:len(sb.free)-1]
	sb.live++
	s := sb.at(slot)
	s.timer.key = slot
	return s
}

// put blanks s; late events carry the old generation and find nobody.
func (sb *slab) put(s *session) {
	*s = session{gen: s.gen + 1, slot: s.slot, side: [2]side{{fd: -1}, {fd: -1}}}
	sb.free = append(sb.free, s.slot)
	sb.live--
}

// each calls f for every session in use; f may end the session.
func (sb *slab) each(f func(*session)) {
	for _, c := range sb.chunks {
		for i := range c {
			if c[i].phase != free {
				f(&c[i])
			}
		}
	}
}

// key is the epoll key of one side: the slot shifted by one, and the side.
func (s *session) key(i int) sys.Key { return sys.Key{ID: s.slot<<1 | int32(i), Gen: s.gen} }
