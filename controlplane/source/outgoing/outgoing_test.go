package outgoing

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"dill/dataplane/dptest"
)

func TestMain(m *testing.M) {
	dptest.Isolate()
	goleak.VerifyTestMain(m)
}

// A service may claim the very port that a connection of dill's own left from.
// The connection leaves from an address that no other program uses: theirs may
// share a port, and do block it.
func TestSourcePortCanBeListenedOn(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	d := Dialer(10 * time.Second)
	d.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 83, 111, 117)}
	conn, err := d.DialContext(t.Context(), "tcp", server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	claimed, err := net.Listen("tcp", conn.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	claimed.Close()
}

// A server that fell silent is noticed, also while nothing is sent.
func TestSilentServerIsProbed(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	conn, err := Dialer(10*time.Second).DialContext(t.Context(), "tcp", server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for _, option := range []struct {
		name               string
		level, value, want int
	}{
		{"SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{"TCP_KEEPIDLE", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15},
		{"TCP_KEEPINTVL", unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 5},
		{"TCP_KEEPCNT", unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 3},
		{"TCP_USER_TIMEOUT", unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 15_000},
	} {
		got, failed := 0, error(nil)
		err := raw.Control(func(fd uintptr) { got, failed = unix.GetsockoptInt(int(fd), option.level, option.value) })
		if err = cmp.Or(err, failed); err != nil || got != option.want {
			t.Errorf("%s = %d, %v; want %d", option.name, got, err, option.want)
		}
	}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	server, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	conn, err := Dialer(10*time.Second).DialContext(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

func TestDescribe(t *testing.T) {
	_, _, portErr := net.SplitHostPort("x")
	local := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 45678}
	for name, tt := range map[string]struct {
		err  error
		want string
	}{
		"plain":   {portErr, "address x: missing port in address"},
		"refused": {&url.Error{Op: "Get", URL: "http://u:secret@h/", Err: &net.OpError{Op: "dial", Net: "tcp", Addr: local, Err: syscall.ECONNREFUSED}}, "dial: connection refused"},
		"reset":   {&net.OpError{Op: "read", Net: "tcp", Source: local, Addr: local, Err: syscall.ECONNRESET}, "read: connection reset by peer"},
		"no such host": {&url.Error{Err: &net.OpError{Op: "dial", Err: &net.DNSError{Name: "h", Err: "no such host", IsNotFound: true}}},
			"look up h: no such host"},
		"silent name server": {&net.DNSError{Name: "h", Err: "read udp 127.0.0.1:45678: i/o timeout", IsTimeout: true}, "look up h: timed out"},
		"bad name server":    {&net.DNSError{Name: "h", Err: "read udp 127.0.0.1:45678: refused"}, "look up h: no usable answer"},
		"expired":            {fmt.Errorf("tls: %w", x509.CertificateInvalidError{Cert: &x509.Certificate{}, Reason: x509.Expired}), "the server's certificate has expired or is not yet valid"},
	} {
		if got := Describe(tt.err).Error(); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

func TestDescribeKeepsTheCause(t *testing.T) {
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := gone.Addr().String()
	gone.Close()
	_, err = http.Get("http://user:secret@" + addr)
	err = Describe(err)
	if !errors.Is(err, syscall.ECONNREFUSED) || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), addr) {
		t.Errorf("described as %v", err)
	}
}
