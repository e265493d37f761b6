package dptest

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
)

// Listening reports whether any process has a listening TCP socket at addr,
// without connecting to it: the kernel's own list is read.
func Listening(t testing.TB, addr netip.AddrPort) bool {
	t.Helper()
	name := "/proc/net/tcp"
	if addr.Addr().Is6() {
		name = "/proc/net/tcp6"
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// "  sl  local_address rem_address   st …": the address in hex, each 32-bit
	// word as the host's integer; state 0A is LISTEN.
	want := kernelHex(addr)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) > 3 && fields[1] == want && fields[3] == "0A" {
			return true
		}
	}
	return false
}

func kernelHex(addr netip.AddrPort) string {
	var b strings.Builder
	for ip := addr.Addr().AsSlice(); len(ip) > 0; ip = ip[4:] {
		fmt.Fprintf(&b, "%08X", binary.NativeEndian.Uint32(ip))
	}
	return fmt.Sprintf("%s:%04X", &b, addr.Port())
}
