package consultest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// Ports are taken in blocks from below the range that the kernel picks source
// ports from by default, where nobody gets one by chance.
const (
	firstPort = 21_000
	lastPort  = 32_767
	blockSize = 4
)

// ports is a block of free ports that is reserved until it is released, also
// against other processes that use this package.
type ports struct {
	api    int // HTTP or HTTPS
	server int // RPC between servers
	serf   int // gossip, TCP and UDP
	lock   net.Listener
}

// reservePorts reserves a block. A port that is closed for a moment, because
// its agent was killed, stays reserved.
func reservePorts() (*ports, error) {
	const blocks = (lastPort - firstPort + 1) / blockSize
	start := rand.IntN(blocks)
	for i := range blocks {
		base := firstPort + (start+i)%blocks*blockSize
		// An abstract socket is a lock that needs no file and goes with the
		// process, however it ends.
		lock, err := net.Listen("unix", fmt.Sprintf("@dill-consultest-%d", base))
		if err != nil {
			continue
		}
		p := &ports{api: base, server: base + 1, serf: base + 2, lock: lock}
		if p.free() {
			return p, nil
		}
		p.release()
	}
	return nil, errors.New("no free ports for consul")
}

func (p *ports) release() { p.lock.Close() }

// free tells whether nobody listens on any of the ports.
func (p *ports) free() bool {
	for _, port := range []int{p.api, p.server, p.serf} {
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return false
		}
		ln.Close()
	}
	pc, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", p.serf))
	if err != nil {
		return false
	}
	pc.Close()
	return true
}
