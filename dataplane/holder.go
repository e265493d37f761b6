package dataplane

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	"dill/dataplane/internal/sys"
	"dill/dataplane/route"
)

// To list sockets costs the kernel a look at all there are, so that holders are
// asked for no more often than every holdersEvery unless there is a new question,
// and for at most 1/holdersShare of the time.
const (
	holdersEvery = time.Second
	holdersShare = 50
)

// holders is who has the ports that dill wants and does not get.
type holders struct {
	list []sys.Holder
	err  error     // why they are not known
	soon time.Time // not again before, for somebody new
	next time.Time // nor, for nobody new
}

// look lists the sockets of ports lo to hi, unless that was done just now;
// there may be a port that was not wanted then.
func (h *holders) look(lo, hi uint16, wanted bool, now time.Time) (looked bool) {
	if now.Before(h.soon) || !wanted && now.Before(h.next) {
		return false
	}
	var e sys.Errno
	h.list, e = sys.Holders(lo, hi)
	h.err = nil
	if e != 0 {
		h.err = e
	}
	h.soon = now.Add(holdersShare * time.Since(now))
	h.next = now.Add(max(holdersEvery, holdersShare*time.Since(now)))
	return true
}

var errNoHolder = errors.New("nobody has it any more")

// of says who keeps dill from listening at addr: the listener, if there is one,
// else a connection, else what is left of one. Where the kernel does not tell it
// may be a listener.
func (h *holders) of(addr netip.AddrPort) (text string, listens bool, err error) {
	if h.err != nil {
		return "", true, h.err
	}
	var who sys.Holder
	found := 0
	for _, s := range h.list {
		if s.Local.Port() != addr.Port() || !meet(s.Local.Addr(), addr.Addr()) {
			continue
		}
		if found++; found == 1 || rank(s) > rank(who) {
			who = s
		}
	}
	if found == 0 {
		return "", false, errNoHolder
	}
	text = describe(who)
	if found > 1 {
		text += fmt.Sprintf(" and %d more", found-1)
	}
	return text, who.State == sys.Listening, nil
}

func describe(h sys.Holder) string {
	switch {
	case h.State == sys.Listening:
		return fmt.Sprintf("by another program, which listens at %s", h.Local)
	case !h.Remote.Addr().IsValid() || h.Remote.Port() == 0:
		return fmt.Sprintf("by a socket of another program at %s (%s)", h.Local, h.State)
	case h.State == sys.TimeWait:
		left := h.Left.Round(time.Second)
		return fmt.Sprintf("by what is left of the connection %s to %s (%s, free within %v)", h.Local, h.Remote, h.State, max(left, time.Second))
	}
	return fmt.Sprintf("by the connection %s to %s (%s)", h.Local, h.Remote, h.State)
}

// rank puts first who is there to stay.
func rank(h sys.Holder) int {
	switch h.State {
	case sys.Listening:
		return 3
	case sys.TimeWait:
		return 0
	case sys.Established:
		return 2
	}
	return 1
}

// meet reports whether sockets at a and b can be in each other's way. One at ::
// may be there for IPv4, too.
func meet(a, b netip.Addr) bool {
	a, b = a.Unmap().WithZone(""), b.Unmap().WithZone("")
	switch {
	case a.Is4() != b.Is4():
		return a == netip.IPv6Unspecified() || b == netip.IPv6Unspecified()
	case a.IsUnspecified() || b.IsUnspecified():
		return true
	}
	return a == b
}

// explainAll brings the reasons of failed listeners up to date, and logs those
// that are new.
func (b *binder) explainAll(unexplained bool, now time.Time) {
	lo, hi := uint16(math.MaxUint16), uint16(0)
	for addr, f := range b.failed {
		if f.errno == sys.EADDRINUSE {
			lo, hi = min(lo, addr.Port()), max(hi, addr.Port())
		}
	}
	looked := lo <= hi && b.holders.look(lo, hi, unexplained, now)
	if !looked && !unexplained {
		return
	}
	for addr, f := range b.failed {
		if f.errno == f.told && !looked {
			continue
		}
		remedy, why := b.explain(addr, f.errno)
		f.err = why
		if remedy != "" {
			f.err = fmt.Errorf("%w; %s", why, remedy)
		}
		if f.errno != f.told {
			b.warn(addr, f.errno, why, remedy)
			f.told = f.errno
		}
	}
}

// warn logs why addr cannot be opened, and the remedy with the first port that
// it is for alone: with many ports it would be most of the log.
func (b *binder) warn(addr netip.AddrPort, e sys.Errno, why error, remedy string) {
	attrs := []any{attrListener, addr, attrErr, why}
	if remedy != "" && !b.advised[e] {
		b.advised[e] = true
		attrs = append(attrs, attrRemedy, remedy)
	}
	b.engine.log.Warn("port cannot be opened, will retry", attrs...)
}

// explain says why addr cannot be opened, and what to do about it if anything.
func (b *binder) explain(addr netip.AddrPort, e sys.Errno) (remedy string, err error) {
	why, inUse := "", false
	switch {
	case e == sys.EADDRINUSE:
		var who string
		if who, inUse, err = b.holders.of(addr); err != nil {
			who = "by another program, or as the source port of a connection"
		}
		why = " " + who
		remedy = "a port that must stay free for dill belongs in sysctl net.ipv4.ip_local_reserved_ports"
	case e == sys.EADDRNOTAVAIL:
		why = ": this host does not have the address"
	case e == sys.EACCES:
		remedy = "a port below net.ipv4.ip_unprivileged_port_start needs CAP_NET_BIND_SERVICE"
	case sys.Scarce(e):
		why = fmt.Sprintf(": %d connections and %d open ports leave no room for another", b.engine.sessions.Load(), len(b.open))
	}
	err = fmt.Errorf("listen %s: %w%s", addr, e, why)
	if inUse {
		err = inUseError{err}
	}
	return remedy, err
}

// inUseError is a route.ErrInUse that says more.
type inUseError struct{ error }

func (e inUseError) Unwrap() []error { return []error{route.ErrInUse, e.error} }
