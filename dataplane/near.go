package dataplane

import (
	"time"

	"dill/dataplane/internal/sys"
)

// A bulk stream to a peer that is near gets a small send buffer. The round trip
// is so short that a small window fills it, and what is in flight stays in the
// processor's cache, where the kernel's tuning would let it grow to megabytes.
//
//	           bulk, not near
//	unjudged ──────────────────────────────▶ far    never touched, or no longer
//	    │ bulk, near                          ▲
//	    ▼        a long round trip            │ again
//	   near ─────────────────────────▶ doubted
//	    ▲            a short one         │
//	    └────────────────────────────────┘
type nearness uint8

const (
	unjudged nearness = iota
	near
	doubted
	far
)

const (
	// nearRTT is the longest round trip to a peer on this host. It is a few
	// microseconds, unless somebody slows the loopback device down.
	nearRTT = 50 * time.Microsecond

	// farRTT is the round trip that gives a near peer back to the kernel's
	// tuning: 256 KiB in 500 µs are 0.5 GB/s.
	farRTT = 500 * time.Microsecond

	// nearLook is how often a near stream is looked at again, ms.
	nearLook = 1000
)

// window judges how far the side is that a spliced stream goes to, and bounds
// what may be unacknowledged there accordingly.
func (l *loop) window(f *flow, dst *side) {
	switch {
	case f.near == unjudged:
		f.near, f.looked = far, uint32(l.now)
		if l.cfg.NearBuffer > 0 && l.isNear(dst) && sys.CapSendBuffer(dst.fd, l.cfg.NearBuffer) == 0 {
			f.near = near
			l.stats.NearStreams.Add(1)
		}
	case uint32(l.now)-f.looked >= nearLook:
		f.looked = uint32(l.now)
		switch {
		case !isFar(dst):
			f.near = near
		case f.near == near:
			f.near = doubted
		default:
			f.near = far
			sys.TuneSendBuffer(dst.fd)
			l.stats.NearWidened.Add(1)
		}
	}
}

func (l *loop) isNear(d *side) bool {
	rtt, ok := sys.RoundTrip(d.fd)
	return ok && (rtt.Least <= l.cfg.NearRTT || rtt.Least <= nearRTT && l.onThisHost(d))
}

// onThisHost reports whether the peer of d is on this host: at an address of its
// own, or in a container or namespace behind a device that leads nowhere else.
func (l *loop) onThisHost(d *side) bool {
	peer := sys.PeerAddr(d.fd, &l.sa).Addr()
	switch {
	case !peer.IsValid():
		return false
	case peer.IsLoopback() || peer == sys.LocalAddr(d.fd, &l.sa).Addr():
		return true
	case l.routes == nil:
		return false
	}
	to, e := l.routes.To(peer)
	return e == 0 && (to.Local || l.engine.devices.has(to.Device))
}

// isFar reports whether even the short round trips to d are long. The smoothed
// one alone is long wherever a reader waits for a processor.
func isFar(d *side) bool {
	rtt, ok := sys.RoundTrip(d.fd)
	return ok && rtt.Smoothed-2*rtt.Deviation > farRTT
}
