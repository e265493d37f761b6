package compile

import (
	"errors"
	"net/netip"
	"reflect"
	"testing"

	"dill/controlplane/source"
)

// TestPendingNamesAreTold: no answer yet is another thing than no address.
func TestPendingNamesAreTold(t *testing.T) {
	failing := func(host string) ([]netip.Addr, error) {
		if host == "gone.test" {
			return nil, errors.New("no such host")
		}
		return hosts(host)
	}
	slow := at(inst(1, claim5000), "slow.test", 80)
	for name, tt := range map[string]struct {
		instances []source.Instance
		want      []Unanswered
	}{
		"the only one":          {[]source.Instance{slow}, []Unanswered{{"i1", "slow.test"}}},
		"beside an address":     {[]source.Instance{slow, inst(2, claim5000)}, []Unanswered{{"i1", "slow.test"}}},
		"a proxy":               {[]source.Instance{inst(2, claim5000, "dill.proxy=socks5://slow.test")}, []Unanswered{{"i2", "slow.test"}}},
		"behind a proxy":        {[]source.Instance{at(inst(1, claim5000, "dill.proxy=socks5://10.0.0.9"), "slow.test", 80)}, nil},
		"answered":              {[]source.Instance{at(inst(1, claim5000), "web.test", 80)}, nil},
		"no such host":          {[]source.Instance{at(inst(1, claim5000), "gone.test", 80)}, nil},
		"critical":              {[]source.Instance{health(slow, source.Critical)}, nil},
		"another one's mistake": {[]source.Instance{slow, at(inst(2, claim5000), "", 80)}, []Unanswered{{"i1", "slow.test"}}},
	} {
		t.Run(name, func(t *testing.T) {
			var m Memo
			in := Input{Hosts: failing, Snapshots: []source.Snapshot{consul(svc("web", 1, tt.instances...))}}
			for range 2 {
				var want []Pending
				if tt.want != nil {
					want = []Pending{{ap("127.0.0.1:5000"), tt.want}}
				}
				if got := m.Compile(config(), in).Pending; !reflect.DeepEqual(got, want) {
					t.Errorf("pending %+v, want %+v", got, want)
				}
			}
			in.Hosts = func(string) ([]netip.Addr, error) { return []netip.Addr{netip.MustParseAddr("10.0.0.7")}, nil }
			if got := m.Compile(config(), in).Pending; got != nil {
				t.Errorf("pending once all is answered: %+v", got)
			}
		})
	}
}
