package outgoing

import (
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A service may claim the very port that a connection of dill's own left from.
func TestSourcePortCanBeListenedOn(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	conn, err := Dialer(time.Second).DialContext(t.Context(), "tcp", server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	claimed, err := net.Listen("tcp", conn.LocalAddr().String())
	if err != nil {
		t.Fatalf("the source port of a connection cannot be listened on: %v", err)
	}
	claimed.Close()
}
