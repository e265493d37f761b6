package peek

import (
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"go.uber.org/goleak"

	"dill/controlplane/compile"
	"dill/controlplane/publish"
	"dill/controlplane/source"
	"dill/dataplane/dptest"
	"dill/dataplane/route"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) {
	dptest.Isolate()
	goleak.VerifyTestMain(m)
}

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func addr(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// listener builds one with backends, whose instances are called i1, i2, ….
func listener(at, owner string, backends ...string) *route.Listener {
	l := &route.Listener{Addr: addr(at), Owner: owner}
	for _, b := range backends {
		l.Backends = append(l.Backends, &route.Backend{Addr: addr(b), Instance: "node/" + b, Weight: 1})
	}
	return l
}

// allBound says that the plane accepts on every listener of t.
func allBound(t *route.Table) map[netip.AddrPort]error {
	bound := make(map[netip.AddrPort]error)
	for _, l := range t.Listeners {
		bound[l.Addr] = nil
	}
	return bound
}

func synced(services int) []publish.SourceStatus {
	return []publish.SourceStatus{{Name: "consul", Synced: true, Services: services}}
}

func TestRender(t *testing.T) {
	served := func() []*route.Listener {
		return []*route.Listener{
			listener("0.0.0.0:8088", "consul/api", "192.168.10.11:5728"),
			listener("0.0.0.0:4444", "consul/web", "192.168.10.23:2042", "192.168.10.17:1234"),
		}
	}
	for name, build := range map[string]func() report{
		"served": func() report {
			return report{status: &publish.Status{Table: route.NewTable(1, served(), nil, nil), Sources: synced(2)}}
		},
		"order": func() report {
			hash := listener("127.0.0.1:5000", "consul/hash", "10.0.0.2:1", "10.0.0.10:1", "[fd00::1]:1", "10.0.0.2:10", "10.0.0.2:9")
			hash.Strategy = route.SourceHash
			least := listener("9.0.0.1:10000", "consul/least", "10.0.0.2:1")
			least.Strategy = route.LeastConn
			return report{status: &publish.Status{Table: route.NewTable(1, []*route.Listener{
				hash, least,
				listener("[::1]:80", "consul/six", "10.0.0.2:1"),
				listener("9.0.0.1:9999", "consul/nine", "10.0.0.2:1"),
				listener("127.0.0.1:443", "consul/low", "10.0.0.2:1"),
			}, nil, nil), Sources: synced(5)}}
		},
		"everything": func() report {
			refused := []route.Refusal{
				{Service: "consul/db", Instance: "n1/db-1", Claim: "any:80", Reason: "port 80 is outside 1024..49151"},
				{Service: "file/own", Claim: "0.0.0.0:4444", Reason: "owned by consul/web"},
				{Service: "consul/evil\x1b[2J", Instance: "n\n0.0.0.0:1", Claim: "\xff\u202e" + strings.Repeat("x", 400), Reason: "no such label"},
			}
			listeners := append(served(), listener("0.0.0.0:7000", "consul/taken", "10.0.0.1:1"), listener("0.0.0.0:7001", "consul/new", "10.0.0.1:1"), listener("0.0.0.0:6001", "consul/moved"),
				listener("0.0.0.0:6000", "consul/flaky", "10.0.0.1:1", "10.0.0.2:1"))
			table := route.NewTable(1, listeners, refused, nil)
			flaky := table.Lookup(addr("0.0.0.0:6000"))
			for range 3 {
				flaky.ConnectFailed(flaky.Backends[1], new(route.Tried), syscall.ECONNREFUSED, -int64(time.Second/2), 3)
			}
			only := table.Lookup(addr("0.0.0.0:8088"))
			only.ConnectFailed(only.Backends[0], new(route.Tried), syscall.ETIMEDOUT, -int64(12*time.Second), 3)
			bound := allBound(table)
			bound[addr("0.0.0.0:7000")] = errors.New("address already in use; consider net.ipv4.ip_local_reserved_ports")
			delete(bound, addr("0.0.0.0:7001"))
			return report{
				status: &publish.Status{
					Table: table,
					Sources: []publish.SourceStatus{
						{Name: "consul", Synced: true, Err: errors.New("connection refused"), Since: now.Add(-5*time.Minute - 300*time.Millisecond), Services: 4, Settling: []publish.Settling{
							{Service: "web", Instance: "n1/web-1", Until: now.Add(12 * time.Second)}, {Service: "a\x1bb", Instance: "n\x1b", Until: now.Add(30 * time.Second)},
						}},
						{Name: "file", Synced: true, Services: 1},
						{Name: "http", Err: errors.New("404 Not Found")},
						{Name: "nomad", Synced: true, Services: 9, Warning: errors.New("token\x1bfile"), Held: []netip.AddrPort{addr("0.0.0.0:4444"), addr("0.0.0.0:9999")}, AskedAt: now.Add(3 * time.Second), Expired: 1, Stale: []source.Stale{{Service: "a\x1bb", Err: errors.New("hidden"), Since: now.Add(-time.Minute)}}},
					},
					Idle: []compile.Idle{{Addr: addr("0.0.0.0:5000"), Owner: "consul/new\x1b[2J", Reason: "no instance is passing: 2 critical"}},
					Lingering: map[netip.AddrPort]time.Time{
						addr("0.0.0.0:8088"): now.Add(12 * time.Second),
						addr("0.0.0.0:6000"): now.Add(-time.Second),
					},
					Waiting: map[netip.AddrPort]publish.Wait{addr("0.0.0.0:6001"): {Hosts: []string{"db.example", "x\x1b.example"}, Until: now.Add(9 * time.Second)}},
				},
				bound:  bound,
				keeper: unsaved{},
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := build()
			r.now = now
			if r.bound == nil {
				r.bound = allBound(r.status.Table)
			}
			got := string(r.render())
			path := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// unsaved is a state file that cannot be written.
type unsaved struct{}

func (unsaved) Path() string { return "/var/lib/dill\x1b/state" }

func (unsaved) Trouble() (time.Time, error) {
	return now.Add(-200 * time.Second), errors.New("there is no directory /var/lib/dill\x1b")
}

// The form is fixed: it is what users' scripts parse.
func TestServedFormIsByteForByte(t *testing.T) {
	table := route.NewTable(1, []*route.Listener{
		listener("0.0.0.0:8088", "consul/api", "192.168.10.11:5728"),
		listener("0.0.0.0:4444", "consul/web", "192.168.10.17:1234", "192.168.10.23:2042"),
	}, nil, nil)
	const want = "0.0.0.0:4444\n├ round_robin\n├──➤ 192.168.10.17:1234\n├──➤ 192.168.10.23:2042\n" +
		"0.0.0.0:8088\n├ round_robin\n├──➤ 192.168.10.11:5728\n"
	if got := string(report{status: &publish.Status{Table: table}, bound: allBound(table), now: now}.render()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestProxyIsShown: where a backend is reached, and nothing secret of it. A
// backend without a proxy keeps its line.
func TestProxyIsShown(t *testing.T) {
	l := listener("0.0.0.0:4444", "consul/web", "192.168.10.17:1234", "192.168.10.23:2042")
	l.Backends[1].Socks = &route.Socks{Addr: addr("10.0.0.9:1080"), User: "ann", Password: "s3cret"}
	l.Backends = append(l.Backends, &route.Backend{
		Addr: netip.AddrPortFrom(netip.Addr{}, 5432), Host: "db.internal", Weight: 1, Instance: "node/db",
		Socks: &route.Socks{Addr: addr("[::1]:1080"), User: "ann", Password: "s3cret"},
	})
	table := route.NewTable(1, []*route.Listener{l}, nil, nil)
	for _, b := range table.Listeners[0].Backends {
		if b.Host != "" {
			table.Listeners[0].ConnectFailed(b, new(route.Tried), syscall.ECONNREFUSED, 1, 1)
		}
	}
	const want = "0.0.0.0:4444\n├ round_robin\n├──➤ socks5://[::1]:1080 ─➤ db.internal:5432\n├──➤ 192.168.10.17:1234\n" +
		"├──➤ socks5://10.0.0.9:1080 ─➤ 192.168.10.23:2042\n\nejected\n├ 0.0.0.0:4444 ──➤ db.internal:5432 node/db: "
	if got := string(report{status: &publish.Status{Table: table}, bound: allBound(table), now: now}.render()); !strings.HasPrefix(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestEmptyTableHintsAtTheCause(t *testing.T) {
	down := errors.New("connection refused")
	idle := []compile.Idle{{Addr: addr("0.0.0.0:1"), Owner: "consul/x", Reason: "no instance is passing: 1 critical"}}
	for _, c := range []struct {
		name    string
		sources []publish.SourceStatus
		refused []route.Refusal
		idle    []compile.Idle
		want    string
	}{
		{"no source", nil, nil, nil, "no route source is configured"},
		{"not read", []publish.SourceStatus{{Name: "consul"}, {Name: "file"}}, nil, nil, "consul and file not read yet"},
		{"one not read", []publish.SourceStatus{{Name: "consul"}, {Name: "file", Synced: true}}, nil, nil, "consul not read yet"},
		{"down", []publish.SourceStatus{{Name: "consul", Err: down}}, nil, nil, "a source cannot be read, see below"},
		{"no tags", synced(0), nil, nil, "no service asks for a port, which takes the tags dill and dill.listener=<label>:<port>"},
		{"critical", synced(3), nil, nil, "no service that asks for a port has a passing instance"},
		{"refused", synced(3), []route.Refusal{{Service: "consul/web", Reason: "no"}}, nil, "every claim was refused, see below"},
		{"not passing", synced(3), nil, idle, "no service that asks for a port has a passing instance, see below"},
		{"refused or not passing", synced(3), []route.Refusal{{Service: "consul/web", Reason: "no"}}, idle, "what is not refused has no passing instance, see below"},
	} {
		status := &publish.Status{Table: route.NewTable(0, nil, c.refused, nil), Sources: c.sources, Idle: c.idle}
		got, _, _ := strings.Cut(string(report{status: status, now: now}.render()), "\n")
		if got != "nothing is served: "+c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	table := route.NewTable(1, []*route.Listener{listener("0.0.0.0:1", "consul/x", "10.0.0.1:1")}, nil, nil)
	got := string(report{status: &publish.Status{Table: table}, now: now}.render())
	if !strings.HasPrefix(got, "nothing is served: no port is bound, see below\n\nnot bound\n├ 0.0.0.0:1 for consul/x: not opened yet\n") {
		t.Errorf("unbound: %q", got)
	}
}

func TestSectionsAreBounded(t *testing.T) {
	refused := make([]route.Refusal, 10000)
	for i := range refused {
		refused[i] = route.Refusal{Service: "consul/x", Reason: "no"}
	}
	got := string(report{status: &publish.Status{Table: route.NewTable(0, nil, refused, nil)}, now: now}.render())
	if n := strings.Count(got, "\n"); n != 1+2+maxLines+1 || !strings.HasSuffix(got, "├ and 9500 more\n") {
		t.Errorf("%d lines, ending in %q", n, got[len(got)-40:])
	}
}

func FuzzEscape(f *testing.F) {
	f.Add("plain text ➤")
	f.Add("\x1b]0;title\a\r\n\xff\u202e\u2028")
	f.Fuzz(func(t *testing.T, s string) {
		out := escape(s)
		if !utf8.ValidString(out) || len(out) > maxField+20 {
			t.Errorf("%q: %d bytes, valid %v", s, len(out), utf8.ValidString(out))
		}
		if i := strings.IndexFunc(out, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
			t.Errorf("%q: not printable at %d of %q", s, i, out)
		}
	})
}

func BenchmarkRender(b *testing.B) {
	var listeners []*route.Listener
	for i := range 2000 {
		l := &route.Listener{Addr: netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(2000+i)), Owner: "consul/x"}
		for j := range 10 {
			l.Backends = append(l.Backends, &route.Backend{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(j), 1}), 80)})
		}
		listeners = append(listeners, l)
	}
	table := route.NewTable(1, listeners, nil, nil)
	r := report{status: &publish.Status{Table: table}, bound: allBound(table), now: now}
	b.ReportAllocs()
	for b.Loop() {
		b.SetBytes(int64(len(r.render())))
	}
}

// TestFailingBackendIsShown: with the reason of the last failed connect, how
// often and since when, until it connects again.
func TestFailingBackendIsShown(t *testing.T) {
	table := route.NewTable(1, []*route.Listener{listener("0.0.0.0:4444", "consul/web", "10.0.0.1:80")}, nil, nil)
	l := table.Listeners[0]
	r := report{status: &publish.Status{Table: table}, bound: allBound(table), now: now, mono: int64(time.Minute)}
	shown := func() string {
		_, after, _ := strings.Cut(string(r.render()), "\n\n")
		return after
	}
	if got := shown(); got != "" {
		t.Errorf("without a failure: %s", got)
	}
	for at, cause := range []syscall.Errno{syscall.ECONNREFUSED, syscall.ELOOP} {
		l.ConnectFailed(l.Backends[0], new(route.Tried), cause, int64(30+at)*int64(time.Second), 3)
	}
	const want = "failing\n├ 0.0.0.0:4444 ──➤ 10.0.0.1:80 node/10.0.0.1:80: the connection would come back to dill, 2 failed connects in a row, the first 30s ago\n"
	if got := shown(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	l.ConnectOK(l.Backends[0])
	if got := shown(); got != "" {
		t.Errorf("after it connected: %s", got)
	}
}
