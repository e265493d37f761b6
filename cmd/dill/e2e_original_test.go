package main

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"dill/dataplane/dptest"
)

// What users of the original have in their files means the same: labels that
// are any words, addresses as net.Listen takes them, fields in any case, a name
// behind a proxy, and a backend that is listed twice.
func TestFilesOfTheOriginal(t *testing.T) {
	t.Parallel()
	one, two := saying(t, "one"), saying(t, "two")
	syscall.ForkLock.RLock()
	proxy := (&dptest.Socks{User: "ann", Password: "s3cret", Names: map[string]netip.Addr{"db.internal": one.Addr().Addr()}}).Start(t)
	syscall.ForkLock.RUnlock()
	named, shared := freeAddr(t), freeAddr(t)
	routes := filepath.Join(t.TempDir(), "routing.toml")
	replace(t, routes, fmt.Sprintf(`
[[Services]]
  Name = "named"
  Listener = "the.first label:%d"
  Backends = ["db.internal:%d"]
  Proxy = "socks5h://ann:s3cret@%s"

[[Services]]
  name = "shared"
  listener = "loop:%d"
  backends = ["%[5]s", "%[6]s", "%[5]s"]
`, named.Port(), one.Addr().Port(), proxy.Backend.Addr(), shared.Port(), one.Addr(), two.Addr()))
	r := launch(t, fmt.Sprintf("listeners.allowed.'The.First Label' = '%s'\nlisteners.allowed.loop = 'localhost'\nrouting.file.path = %q\n", named.Addr(), routes))

	r.answers(named, "one")
	r.peekSays(fmt.Sprintf(`(?m)^%s\n├ round_robin\n├──➤ socks5://%s ─➤ db\.internal:%d\n`, named, proxy.Backend.Addr(), one.Addr().Port()))
	loop := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), shared.Port())
	r.shows(loop, sorted(one, two)...)
	count := map[string]int{}
	for range 30 {
		count[ask(t, loop)]++
	}
	if count["one"] != 20 || count["two"] != 10 {
		t.Errorf("answers %v, want 20 of one and 10 of two", count)
	}
	if strings.Contains(r.table()+r.log.String(), "s3cret") {
		t.Error("the proxy's password is shown")
	}
}
