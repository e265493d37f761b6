package compile

import (
	"testing"

	"dill/controlplane/source"
)

// kept marks all instances of a service as kept.
func kept(s source.Service) source.Service {
	for i := range s.Instances {
		s.Instances[i] = s.Instances[i].Keep()
	}
	return s
}

// An index of another history, which is what a kept instance may have, neither
// makes it the newest registration of an address nor that of a listener.
func TestKeptInstanceIsNeverTheNewest(t *testing.T) {
	ghost, live := inst(1, claim5000, "dill.strategy=random"), inst(1, claim5000, "dill.proxy_protocol=v2", "dill.strategy=least_conn", "dill.allow=10.0.0.0/8")
	ghost.ID, ghost.CreateIndex, live.ID, live.CreateIndex = "ghost", 500, "live", 20
	for _, order := range [][]source.Instance{{ghost.Keep(), live}, {live, ghost.Keep()}} {
		l := only(t, compileAll(consul(svc("web", 1, order...))))
		if len(l.Backends) != 1 || l.Backends[0].Instance != "live" || l.Backends[0].ProxyProtocol != 2 || l.Strategy.String() != "least_conn" {
			t.Errorf("served are %+v by %v", l.Backends[0], l.Strategy)
		}
		if len(l.Allow) != 1 {
			t.Errorf("admitted are %v", l.Allow)
		}
	}
}

// Nor does it make a service older than one that is there.
func TestKeptServiceIsNoElder(t *testing.T) {
	wantServed(t, compileAll(consul(kept(asks("api", 1, "local:5000")), asks("web", 20, "local:5000"))), "127.0.0.1:5000 consul/web web1")
	wantServed(t, compileAll(consul(kept(asks("api", 1, "local:5000")), kept(asks("web", 20, "local:5000")))), "127.0.0.1:5000 consul/api api1")
}
