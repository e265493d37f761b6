package load

import (
	"errors"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"dill/bench/internal/sock"
	"dill/bench/wire"
)

// Probe sends one request to addr and checks its answer: nil means that addr
// leads to a sink, now.
func Probe(addr netip.AddrPort, timeout time.Duration) error {
	fd, err := sock.Dial(addr, timeout)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	const seq = 1
	request := wire.NewMessage(0, wire.MinMessage)
	wire.Stamp(request, seq)
	hello := wire.Hello{Mode: wire.OneShot, Size: wire.MinMessage}
	if err := sock.WriteAll(fd, append(hello.AppendTo(nil), request...), timeout); err != nil {
		return err
	}
	reply := make([]byte, 0, wire.MinMessage+1)
	for {
		n, err := sock.ReadSome(fd, reply[len(reply):cap(reply)], timeout)
		if err != nil {
			return err
		}
		if reply = reply[:len(reply)+n]; n == 0 || len(reply) == cap(reply) {
			break
		}
	}
	if !wire.IsAnswer(reply, request, seq) {
		return errors.New("the answer is not the sink's")
	}
	return nil
}
