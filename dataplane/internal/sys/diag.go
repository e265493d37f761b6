package sys

import (
	"encoding/binary"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Holder is a TCP socket that has a local port.
type Holder struct {
	Local  netip.AddrPort
	Remote netip.AddrPort // zero address and port unless it is a connection
	State  State
	Left   time.Duration // of State TimeWait: until it is over
}

// State is a state of TCP, as the kernel's tcp_states.h numbers them.
type State uint8

const (
	Established State = 1
	TimeWait    State = 6
	Listening   State = 10
)

// stateNames are as ss shows them.
var stateNames = [...]string{"", "ESTABLISHED", "SYN-SENT", "SYN-RECEIVED", "FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT",
	"CLOSED", "CLOSE-WAIT", "LAST-ACK", "LISTEN", "CLOSING", "SYN-RECEIVED", "BOUND"}

func (s State) String() string {
	if int(s) < len(stateNames) && s > 0 {
		return stateNames[s]
	}
	return "unknown state"
}

// The messages of linux/inet_diag.h.
const (
	diagSocketID     = 48                    // struct inet_diag_sockid
	diagRequest      = 8 + diagSocketID      // struct inet_diag_req_v2
	diagMessage      = 4 + diagSocketID + 20 // struct inet_diag_msg
	diagByFamily     = 20                    // SOCK_DIAG_BY_FAMILY of linux/sock_diag.h
	diagAttrBytecode = 1                     // INET_DIAG_REQ_BYTECODE
	diagSourceGE     = 2                     // INET_DIAG_BC_S_GE
	diagSourceLE     = 3                     // INET_DIAG_BC_S_LE
)

// Holders lists the TCP sockets of this network namespace whose local port is
// between lo and hi. The kernel looks at every socket there is, which takes a
// while where there are many.
func Holders(lo, hi uint16) ([]Holder, Errno) {
	s, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, errno(err)
	}
	defer Close(int32(s))
	var all []Holder
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		if err := unix.Sendto(s, diagQuery(family, lo, hi), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return nil, errno(err)
		}
		var e Errno
		if all, e = readHolders(s, all); e == ENOENT && family == unix.AF_INET6 {
			break // a kernel without IPv6
		} else if e != 0 {
			return nil, e
		}
	}
	return all, 0
}

// diagQuery asks for the sockets of one family, in any state, whose local port
// is between lo and hi.
func diagQuery(family byte, lo, hi uint16) []byte {
	// Each comparison is two instructions of four bytes: code, how far to go if
	// true, how far if false; then the port. Past the end means "not this one".
	order := binary.NativeEndian
	filter := make([]byte, 16)
	filter[0], filter[1] = diagSourceGE, 8
	order.PutUint16(filter[2:], 20)
	order.PutUint16(filter[6:], lo)
	filter[8], filter[9] = diagSourceLE, 8
	order.PutUint16(filter[10:], 12)
	order.PutUint16(filter[14:], hi)

	q := make([]byte, unix.NLMSG_HDRLEN+diagRequest+unix.SizeofRtAttr+len(filter))
	order.PutUint32(q, uint32(len(q)))
	order.PutUint16(q[4:], diagByFamily)
	order.PutUint16(q[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	request := q[unix.NLMSG_HDRLEN:]
	request[0], request[1] = family, unix.IPPROTO_TCP
	order.PutUint32(request[4:], ^uint32(0)) // all states
	attr := request[diagRequest:]
	order.PutUint16(attr, uint16(unix.SizeofRtAttr+len(filter)))
	order.PutUint16(attr[2:], diagAttrBytecode)
	copy(attr[unix.SizeofRtAttr:], filter)
	return q
}

// readHolders appends what one query brings. The kernel has an answer ready
// whenever it is asked for one.
func readHolders(s int, all []Holder) ([]Holder, Errno) {
	buf := make([]byte, 32<<10)
	order := binary.NativeEndian
	for {
		n, _, err := unix.Recvfrom(s, buf, 0)
		if err == EINTR {
			continue
		}
		if err != nil {
			return nil, errno(err)
		}
		for b := buf[:n]; len(b) >= unix.NLMSG_HDRLEN; {
			size, kind := int(order.Uint32(b)), order.Uint16(b[4:])
			if size < unix.NLMSG_HDRLEN || size > len(b) {
				return nil, EINVAL
			}
			body := b[unix.NLMSG_HDRLEN:size]
			switch {
			case kind == unix.NLMSG_DONE:
				return all, 0
			case kind == unix.NLMSG_ERROR && len(body) >= 4:
				return nil, Errno(-int32(order.Uint32(body)))
			case kind == diagByFamily && len(body) >= diagMessage:
				all = append(all, holder(body))
			}
			b = b[min(len(b), (size+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1)):]
		}
	}
}

// holder reads a struct inet_diag_msg.
func holder(m []byte) Holder {
	id := m[4:]
	addr := func(b, port []byte) netip.AddrPort {
		a := netip.AddrFrom16([16]byte(b)).Unmap()
		if m[0] == unix.AF_INET {
			a = netip.AddrFrom4([4]byte(b))
		}
		return netip.AddrPortFrom(a, binary.BigEndian.Uint16(port))
	}
	h := Holder{Local: addr(id[4:20], id), Remote: addr(id[20:36], id[2:]), State: State(m[1])}
	if h.State == TimeWait {
		h.Left = time.Duration(binary.NativeEndian.Uint32(m[4+diagSocketID:])) * time.Millisecond
	}
	return h
}
