package resolve

import (
	"context"
	"net"
	"net/netip"
	"syscall"
)

// system asks the machine's name servers with Go's own resolver. Its sockets
// set SO_REUSEADDR, so that the source port of a query over TCP never blocks a
// listener that dill opens on the same port later.
var system = net.Resolver{
	PreferGo: true,
	Dial:     (&net.Dialer{Control: reuseAddr}).DialContext,
}

func systemLookup(ctx context.Context, host string) ([]netip.Addr, error) {
	return system.LookupNetIP(ctx, "ip", host)
}

func reuseAddr(_, _ string, c syscall.RawConn) error {
	var err error
	if e := c.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	}); e != nil {
		return e
	}
	return err
}
