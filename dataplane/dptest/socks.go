package dptest

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"
)

// Socks is a scripted SOCKS5 server (RFC 1928, RFC 1929). The zero value is an
// honest one without authentication; the fields make it refuse, dawdle or lie.
type Socks struct {
	User, Password string // asked for when User is not empty

	Method  byte   // method to answer with if the client asked for it or not; 0 = an honest choice
	Status  byte   // status of the answer to the right password; it goes on as if that were 0
	Reply   byte   // reply code of the CONNECT answer when it is not 0
	Bound   []byte // ATYP, address and port of the CONNECT answer; nil = 0.0.0.0:0
	Garbage []byte // sent in place of the method answer, then the connection ends

	Names map[string]netip.Addr // what names it is asked for stand for; others are refused

	Dribble bool // every byte of an answer in a segment of its own
	Silent  bool // reads everything and never answers
	Hasty   bool // relays the backend's first bytes in one segment with the reply

	Backend  *Backend // where it listens; set by Start
	requests atomic.Int64
}

// Start runs the server on a free address until the test's cleanup.
func (s *Socks) Start(t testing.TB) *Socks {
	t.Helper()
	s.Backend = Serve(t, s.serve)
	return s
}

// Requests is how many CONNECT requests the server has read, well formed and
// with the right password.
func (s *Socks) Requests() int64 { return s.requests.Load() }

const (
	socksVersion     = 5
	socksNoAuth      = 0
	socksPassword    = 2
	socksNoneOfThese = 0xff
)

func (s *Socks) serve(p *Peer) {
	if s.Silent {
		Hold(p)
		return
	}
	target, err := s.handshake(p)
	if err != nil {
		return
	}
	// An unanswered client may still send; a close with unread input would
	// reset it before it read the answer.
	if s.Reply != 0 {
		_ = p.conn.CloseWrite()
		Hold(p)
		return
	}
	up, err := Connect(target, Socket{})
	if err != nil {
		return
	}
	defer up.Close()
	answer := append([]byte{socksVersion, 0, 0}, s.bound()...)
	if s.Hasty {
		first := make([]byte, 4096)
		n, err := up.conn.Read(first)
		if err != nil {
			return
		}
		answer = append(answer, first[:n]...)
	}
	if s.answer(p, answer) == nil {
		relay(p, up)
	}
}

// handshake reads greeting, password and request and returns where to connect.
func (s *Socks) handshake(p *Peer) (netip.AddrPort, error) {
	var none netip.AddrPort
	head := make([]byte, 2)
	if _, err := io.ReadFull(p.conn, head); err != nil {
		return none, err
	}
	methods := make([]byte, head[1])
	if _, err := io.ReadFull(p.conn, methods); err != nil {
		return none, err
	}
	if s.Garbage != nil {
		_ = s.answer(p, s.Garbage)
		_ = p.conn.CloseWrite()
		Hold(p)
		return none, io.EOF
	}
	method := s.choose(head[0], methods)
	if err := s.answer(p, []byte{socksVersion, method}); err != nil {
		return none, err
	}
	switch method {
	case socksNoneOfThese:
		Hold(p)
		return none, io.EOF
	case socksPassword:
		if err := s.authenticate(p); err != nil {
			return none, err
		}
	}
	target, err := s.readRequest(p)
	if err != nil {
		return none, err
	}
	s.requests.Add(1)
	if s.Reply != 0 {
		return target, s.answer(p, append([]byte{socksVersion, s.Reply, 0}, s.bound()...))
	}
	return target, nil
}

func (s *Socks) choose(version byte, offered []byte) byte {
	if s.Method != 0 {
		return s.Method
	}
	want := byte(socksNoAuth)
	if s.User != "" {
		want = socksPassword
	}
	for _, m := range offered {
		if version == socksVersion && m == want {
			return want
		}
	}
	return socksNoneOfThese
}

// authenticate reads the user/password request of RFC 1929 and answers it.
func (s *Socks) authenticate(p *Peer) error {
	field := func() (string, error) {
		n := make([]byte, 1)
		if _, err := io.ReadFull(p.conn, n); err != nil {
			return "", err
		}
		text := make([]byte, n[0])
		_, err := io.ReadFull(p.conn, text)
		return string(text), err
	}
	if _, err := io.ReadFull(p.conn, make([]byte, 1)); err != nil { // version 1
		return err
	}
	user, err := field()
	if err != nil {
		return err
	}
	password, err := field()
	if err != nil {
		return err
	}
	if user == s.User && password == s.Password {
		return s.answer(p, []byte{1, s.Status})
	}
	if err := s.answer(p, []byte{1, 1}); err != nil {
		return err
	}
	_ = p.conn.CloseWrite()
	Hold(p)
	return fmt.Errorf("user %q refused", user)
}

// readRequest reads a CONNECT request to an IPv4 or IPv6 address, or to a name
// that s knows.
func (s *Socks) readRequest(p *Peer) (netip.AddrPort, error) {
	head := make([]byte, 4)
	if _, err := io.ReadFull(p.conn, head); err != nil {
		return netip.AddrPort{}, err
	}
	size := map[byte]int{1: 4, 3: 1, 4: 16}[head[3]]
	if head[0] != socksVersion || head[1] != 1 || head[2] != 0 || size == 0 {
		return netip.AddrPort{}, fmt.Errorf("not a CONNECT to an address: % x", head)
	}
	if head[3] == 3 {
		length := make([]byte, 1)
		if _, err := io.ReadFull(p.conn, length); err != nil {
			return netip.AddrPort{}, err
		}
		size = int(length[0])
	}
	rest := make([]byte, size+2)
	if _, err := io.ReadFull(p.conn, rest); err != nil {
		return netip.AddrPort{}, err
	}
	addr, _ := netip.AddrFromSlice(rest[:size])
	if head[3] == 3 {
		known := false
		if addr, known = s.Names[string(rest[:size])]; !known {
			return netip.AddrPort{}, fmt.Errorf("nobody is called %q", rest[:size])
		}
	}
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(rest[size:])), nil
}

func (s *Socks) bound() []byte {
	if s.Bound != nil {
		return s.Bound
	}
	return []byte{1, 0, 0, 0, 0, 0, 0}
}

// answer writes b, byte by byte if the server dribbles.
func (s *Socks) answer(p *Peer, b []byte) error {
	if !s.Dribble {
		_, err := p.conn.Write(b)
		return err
	}
	gap := time.NewTicker(time.Millisecond)
	defer gap.Stop()
	for i := range b {
		<-gap.C
		if _, err := p.conn.Write(b[i : i+1]); err != nil {
			return err
		}
	}
	return nil
}

// relay copies both ways until both ends are done, half-closes passed on.
func relay(a, b *Peer) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(a.conn, b.conn)
		_ = a.conn.CloseWrite()
	}()
	_, _ = io.Copy(b.conn, a.conn)
	_ = b.conn.CloseWrite()
	<-done
}
