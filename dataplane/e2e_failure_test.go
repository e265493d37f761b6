package dataplane_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"dill/dataplane"
	. "dill/dataplane/dptest"
	"dill/dataplane/route"
)

// TestOnlyBackendFails: a backend that is never ejected and cannot be connected
// to is told of, once however many clients try, with the reason, and again when
// it has come back.
func TestOnlyBackendFails(t *testing.T) {
	const clients = 50
	tests := []struct {
		name    string
		setup   func(t *testing.T) setup
		clients int
		cause   string
	}{
		{"refuses", func(t *testing.T) setup {
			return setup{dead: several(t, 1, FreeAddr)}
		}, clients, "connection refused"},
		{"is silent", func(t *testing.T) setup {
			return setup{cfg: dataplane.Config{ConnectTimeout: 100 * time.Millisecond}, dead: several(t, 1, SilentAddr)}
		}, 2, "connection timed out"},
		{"is refused by the proxy", func(t *testing.T) setup {
			proxy := (&Socks{Reply: 4}).Start(t)
			return setup{dead: several(t, 1, FreeAddr), backend: via(proxy, "", "")}
		}, clients, "no route to host"},
		{"is behind a proxy that wants a password", func(t *testing.T) setup {
			proxy := (&Socks{User: "zoe", Password: "s3cr3t"}).Start(t)
			return setup{dead: several(t, 1, FreeAddr), backend: via(proxy, "zoe", "s3cret")}
		}, clients, "permission denied"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := test.setup(t)
			s.backends = -1
			r := start(t, s)
			for range test.clients {
				r.rejected(t)
			}
			line := fmt.Sprintf(`msg="backend cannot be connected to" listener=%v backend=%v err="%s"`, r.front, s.dead[0], test.cause)
			Eventually(t, "the failure is told", func() bool { return r.log.contains(line) })
			for range test.clients {
				r.rejected(t)
			}
			Steady(t, 1200*time.Millisecond, "it is told once", func() bool {
				return strings.Count(r.log.String(), "cannot be connected to") == 1
			})
			if r.log.contains("zoe") || r.log.contains("s3cret") {
				t.Error("the log has the proxy's user or password")
			}
		})
	}
	t.Run("and recovers", func(t *testing.T) {
		r := start(t, setup{serve: names})
		r.backends[0].Stop()
		r.rejected(t)
		Eventually(t, "the failure is told", func() bool { return r.log.contains("backend cannot be connected to") })
		r.backends[0].Start(t)
		r.ask(t)
		Eventually(t, "the recovery is told", func() bool { return r.log.contains("backend can be connected to again") })
	})
	t.Run("an ejection tells why", func(t *testing.T) {
		dead := several(t, 1, FreeAddr)
		r := start(t, setup{cfg: dataplane.Config{EjectAfter: 1}, serve: names, dead: dead})
		Eventually(t, "the backend is left out", func() bool {
			r.ask(t)
			return r.log.contains(fmt.Sprintf(`backend=%v err="connection refused"`, dead[0]))
		})
	})
}

// TestFailureOfABackend: what people see of a backend that fails is the reason
// of the last failure, since when and how often, until it connects again.
func TestFailureOfABackend(t *testing.T) {
	r := start(t, setup{serve: names})
	state := func() *route.BackendState { return r.table.Lookup(r.front).Backends[0].State }
	r.backends[0].Stop()
	before := route.Now()
	for range 3 {
		r.rejected(t)
	}
	got := state().Failure()
	if got.Count != 3 || got.Cause.Error() != "connection refused" || got.Since < before-int64(10*time.Millisecond) || got.Since > route.Now() {
		t.Errorf("after three failures: %+v", got)
	}
	r.backends[0].Start(t)
	r.ask(t)
	if got := state().Failure(); got.Count != 0 {
		t.Errorf("after a success: %+v", got)
	}
}
