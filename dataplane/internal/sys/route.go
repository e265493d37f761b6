package sys

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Routes asks the kernel where it would send packets to, by rtnetlink. The
// kernel answers within the call that asks, so nothing here waits, and nothing
// is allocated. One goroutine uses it at a time.
type Routes struct {
	fd     int32 // owned
	seq    uint32
	ask    [routeHeader + unix.SizeofRtAttr + 16]byte
	answer [1024]byte // a route has some 150 bytes; the type stands before what is cut off
}

// routeHeader is the length of the two headers of a message about a route.
const routeHeader = unix.SizeofNlMsghdr + unix.SizeofRtMsg

// OpenRoutes opens the socket that asks; nil with an error.
func OpenRoutes() (*Routes, Errno) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, errno(err)
	}
	return &Routes{fd: int32(fd)}, 0
}

// Close closes the socket, if there is one. r must not be used afterwards.
func (r *Routes) Close() {
	if r != nil {
		Close(r.fd)
	}
}

// Route is where packets to an address go; the zero value is nowhere.
type Route struct {
	Local  bool  // they stay on this host: the route is of the type RTN_LOCAL
	Device int32 // index of the network device that they leave by
}

// To asks for the route to dst (RTM_GETROUTE, rtnetlink(7)). With an error
// nothing is known.
func (r *Routes) To(dst netip.Addr) (Route, Errno) {
	r.seq++
	question := r.question(dst.Unmap())
	if _, e := Send(r.fd, question); e != 0 {
		return Route{}, e
	}
	for {
		n, e := Recv(r.fd, r.answer[:])
		switch {
		case e != 0:
			return Route{}, e
		case n < routeHeader:
			return Route{}, unix.EPROTO
		case binary.NativeEndian.Uint32(r.answer[8:]) != r.seq:
			continue // of a question that had an error
		}
		switch binary.NativeEndian.Uint16(r.answer[4:]) {
		case unix.RTM_NEWROUTE:
			m := (*unix.RtMsg)(unsafe.Pointer(&r.answer[unix.SizeofNlMsghdr]))
			return Route{Local: m.Type == unix.RTN_LOCAL, Device: device(r.answer[routeHeader:n])}, 0
		case unix.NLMSG_ERROR:
			return Route{}, unroutable(Errno(-int32(binary.NativeEndian.Uint32(r.answer[unix.SizeofNlMsghdr:]))))
		}
		return Route{}, unix.EPROTO
	}
}

// device is RTA_OIF among the attributes of a route; 0 when it has none, as one
// over several devices.
func device(attrs []byte) int32 {
	if v := attribute(attrs, unix.RTA_OIF); len(v) >= 4 {
		return int32(binary.NativeEndian.Uint32(v))
	}
	return 0
}

// attribute finds one of netlink's attributes; nil if it is not there.
func attribute(attrs []byte, kind uint16) []byte {
	for len(attrs) >= unix.SizeofRtAttr {
		size := int(binary.NativeEndian.Uint16(attrs))
		if size < unix.SizeofRtAttr || size > len(attrs) {
			return nil
		}
		if binary.NativeEndian.Uint16(attrs[2:])&^unix.NLA_F_NESTED == kind {
			return attrs[unix.SizeofRtAttr:size]
		}
		attrs = attrs[min(len(attrs), (size+3)&^3):]
	}
	return nil
}

// question writes the message that asks for the route to dst.
func (r *Routes) question(dst netip.Addr) []byte {
	m := unix.RtMsg{Family: uint8(family(dst)), Dst_len: uint8(dst.BitLen())}
	size := unix.SizeofRtAttr + dst.BitLen()/8
	if a := r.ask[routeHeader+unix.SizeofRtAttr:]; dst.Is4() {
		b := dst.As4()
		copy(a, b[:])
	} else {
		b := dst.As16()
		copy(a, b[:])
	}
	h := unix.NlMsghdr{Len: uint32(routeHeader + size), Type: unix.RTM_GETROUTE, Flags: unix.NLM_F_REQUEST, Seq: r.seq}
	*(*unix.NlMsghdr)(unsafe.Pointer(&r.ask)) = h
	*(*unix.RtMsg)(unsafe.Pointer(&r.ask[unix.SizeofNlMsghdr])) = m
	*(*unix.RtAttr)(unsafe.Pointer(&r.ask[routeHeader])) = unix.RtAttr{Len: uint16(size), Type: unix.RTA_DST}
	return r.ask[:h.Len]
}

// unroutable takes the kernel's ways of saying that there is no route for an
// answer, not for an error.
func unroutable(e Errno) Errno {
	switch e {
	case unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EACCES, unix.EINVAL:
		return 0
	}
	return e
}
