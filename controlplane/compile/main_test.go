package compile

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"dill/controlplane/resolve"
	"dill/controlplane/source"
	"dill/dataplane/route"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// config is the default configuration with a few more labels.
func config() Options {
	return Options{
		Allowed: map[string]netip.Addr{
			"local": netip.MustParseAddr("127.0.0.1"), "any": netip.IPv4Unspecified(),
			"other": netip.MustParseAddr("127.0.0.1"), "lan": netip.MustParseAddr("192.0.2.1"),
			"any6": netip.IPv6Unspecified(), "six": netip.IPv6Loopback(),
		},
		PortMin: 1024, PortMax: 49151,
		Reserved: []netip.AddrPort{ap("127.0.0.1:2323")},
		Local: func(a netip.Addr) bool {
			return a == netip.MustParseAddr("192.0.2.1") || a == netip.MustParseAddr("2001:db8::1")
		},
	}
}

func ap(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// hosts resolves web.test to two addresses.
func hosts(host string) ([]netip.Addr, error) {
	switch host {
	case "web.test":
		return []netip.Addr{netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("10.9.0.2")}, nil
	case "proxy.test":
		return []netip.Addr{netip.MustParseAddr("10.9.0.9")}, nil
	}
	return nil, resolve.ErrPending
}

// inst is an instance at 10.0.0.<n>:80 with the tag dill and these.
func inst(n int, tags ...string) source.Instance {
	return source.Instance{
		ID: fmt.Sprintf("i%d", n), Host: fmt.Sprintf("10.0.0.%d", n), Port: 80,
		Tags: append([]string{"dill"}, tags...), CreateIndex: uint64(n),
	}
}

// with changes an instance.
func with(i source.Instance, change func(*source.Instance)) source.Instance {
	change(&i)
	return i
}

func health(i source.Instance, h source.Health) source.Instance { i.Health = h; return i }

func svc(name string, index uint64, instances ...source.Instance) source.Service {
	return source.Service{Name: name, CreateIndex: index, Instances: instances}
}

func consul(services ...source.Service) source.Snapshot {
	return source.Snapshot{Source: "consul", Synced: true, Services: services}
}

func compileAll(snapshots ...source.Snapshot) Result {
	return Compile(config(), Input{Snapshots: snapshots, Hosts: hosts})
}

// served writes listeners as "127.0.0.1:5000 consul/web i1,i2".
func served(r Result) []string {
	var out []string
	for _, l := range r.Listeners {
		var ids []string
		for _, b := range l.Backends {
			ids = append(ids, b.Instance)
		}
		out = append(out, strings.TrimSpace(fmt.Sprintf("%v %s %s", l.Addr, l.Owner, strings.Join(ids, ","))))
	}
	return out
}

func wantServed(t *testing.T, r Result, want ...string) {
	t.Helper()
	if got := served(r); !slices.Equal(got, want) {
		t.Errorf("serves %q\nwant   %q\nrefused %+v", got, want, r.Refused)
	}
}

// wantRefused fails unless exactly these refusals are there, each written as
// "service instance|claim|part of the reason".
func wantRefused(t *testing.T, r Result, want ...string) {
	t.Helper()
	ok := len(r.Refused) == len(want)
	for i := 0; ok && i < len(want); i++ {
		w := strings.SplitN(want[i], "|", 3)
		f := r.Refused[i]
		ok = strings.TrimSpace(f.Service+" "+f.Instance) == w[0] && f.Claim == w[1] && strings.Contains(f.Reason, w[2])
	}
	if !ok {
		t.Errorf("refused:")
		for _, f := range r.Refused {
			t.Errorf("  %s %s|%s|%s", f.Service, f.Instance, f.Claim, f.Reason)
		}
		t.Errorf("want: %q", want)
	}
	for _, f := range r.Refused {
		checkPrintable(t, f)
	}
}

func checkPrintable(t *testing.T, f route.Refusal) {
	t.Helper()
	for _, s := range []string{f.Service, f.Instance, f.Claim, f.Reason} {
		if !printable(s) || len(s) > maxReason {
			t.Errorf("not one short printable line: %q", s)
		}
	}
}

// only returns the one listener of r.
func only(t *testing.T, r Result) *route.Listener {
	t.Helper()
	if len(r.Listeners) != 1 {
		t.Fatalf("serves %q, want one listener; refused %+v", served(r), r.Refused)
	}
	return r.Listeners[0]
}
