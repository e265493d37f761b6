package route

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func at(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func TestTableIsSortedNumerically(t *testing.T) {
	var ls []*Listener
	for _, a := range []string{"[::1]:80", "10.0.0.10:80", "9.0.0.1:1000", "9.0.0.1:999", "10.0.0.9:80", "9.0.0.1:999"} {
		ls = append(ls, &Listener{Addr: at(a)})
	}
	ls[1].Backends = []*Backend{{Addr: at("1.1.1.1:20")}, {Addr: at("1.1.1.1:3")}, {Addr: at("[::ffff:1.1.1.1]:20")}}
	tab := NewTable(7, ls, nil, nil)
	var got []string
	for _, l := range tab.Listeners {
		got = append(got, l.Addr.String())
	}
	want := []string{"9.0.0.1:999", "9.0.0.1:1000", "10.0.0.9:80", "10.0.0.10:80", "[::1]:80"}
	if !slices.Equal(got, want) {
		t.Errorf("listeners %v, want %v", got, want)
	}
	bs := tab.Lookup(at("10.0.0.10:80")).Backends
	if len(bs) != 2 || bs[0].Addr != at("1.1.1.1:3") || bs[1].Addr != at("1.1.1.1:20") {
		t.Errorf("backends not sorted or not unique: %v", bs)
	}
	if bs[0].Weight != 1 {
		t.Errorf("weight 0 became %d, want 1", bs[0].Weight)
	}
	if tab.Generation != 7 {
		t.Errorf("generation %d", tab.Generation)
	}
}

func TestLookup(t *testing.T) {
	tab := NewTable(1, []*Listener{{Addr: at("[::ffff:127.0.0.1]:80"), Backends: []*Backend{{Addr: at("10.0.0.1:1")}}}}, nil, nil)
	for _, tt := range []struct {
		addr string
		want bool
	}{
		{"127.0.0.1:80", true},
		{"[::ffff:127.0.0.1]:80", true},
		{"127.0.0.1:81", false},
		{"[::1]:80", false},
	} {
		if got := tab.Lookup(at(tt.addr)) != nil; got != tt.want {
			t.Errorf("Lookup(%s) found %v, want %v", tt.addr, got, tt.want)
		}
	}
	backend := func(addr string) *Backend { return &Backend{Addr: at(addr)} }
	if tab.Backend(at("127.0.0.1:80"), backend("10.0.0.1:1")) == nil {
		t.Error("backend not found by its target")
	}
	if tab.Backend(at("127.0.0.1:80"), backend("10.0.0.1:2")) != nil || tab.Backend(at("127.0.0.1:81"), backend("10.0.0.1:1")) != nil {
		t.Error("found a backend that is not there")
	}
	var none *Table
	if none.Lookup(addrA) != nil {
		t.Error("nil table has a listener")
	}
}

func TestUnchangedListenerIsTheSamePointer(t *testing.T) {
	build := func(prev *Table, change func(*Listener)) *Table {
		l := &Listener{
			Addr: addrA, Owner: "consul/web", Strategy: SourceHash, Backends: backends(1, 2, 3),
			Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
		}
		l.Backends[0].Socks = &Socks{Addr: at("10.9.9.9:1080"), User: "u", Password: "p"}
		if change != nil {
			change(l)
		}
		return NewTable(2, []*Listener{l}, nil, prev)
	}
	t1 := build(nil, nil)
	if t2 := build(t1, nil); t2.Listeners[0] != t1.Listeners[0] {
		t.Error("an unchanged listener was replaced")
	}
	for name, change := range map[string]func(*Listener){
		"owner":    func(l *Listener) { l.Owner = "file/web" },
		"strategy": func(l *Listener) { l.Strategy = Random },
		"limit":    func(l *Listener) { l.MaxConnections = 1 },
		"idle":     func(l *Listener) { l.IdleTimeout = 1 },
		"drain":    func(l *Listener) { l.DrainTimeout = 1 },
		"waiting":  func(l *Listener) { l.Waiting = true },
		"allow":    func(l *Listener) { l.Allow = nil },
		"nobody":   func(l *Listener) { l.Allow = []netip.Prefix{} },
		"fewer":    func(l *Listener) { l.Backends = l.Backends[1:] },
		"weight":   func(l *Listener) { l.Backends[1].Weight = 9 },
		"instance": func(l *Listener) { l.Backends[1].Instance = "x" },
		"proxy":    func(l *Listener) { l.Backends[1].ProxyProtocol = 2 },
		"connect":  func(l *Listener) { l.Backends[1].ConnectTimeout = 1 },
		"socks":    func(l *Listener) { l.Backends[0].Socks.Password = "q" },
		"no socks": func(l *Listener) { l.Backends[0].Socks = nil },
	} {
		if t2 := build(t1, change); t2.Listeners[0] == t1.Listeners[0] {
			t.Errorf("%s: a changed listener was kept", name)
		} else if t2.Listeners[0].State != t1.Listeners[0].State {
			t.Errorf("%s: the listener's state was lost", name)
		}
	}
}

func TestStateIsInheritedByAddress(t *testing.T) {
	t1 := NewTable(1, []*Listener{{Addr: addrA, Backends: backends(1, 1, 1)}}, nil, nil)
	bs := backends(5, 1, 1, 1)
	t2 := NewTable(2, []*Listener{
		{Addr: addrA, Backends: []*Backend{bs[3], bs[2], bs[0]}},
		{Addr: at("127.0.0.1:5001"), Backends: backends(1)},
	}, nil, t1)
	l1, l2 := t1.Listeners[0], t2.Listeners[0]
	if l1.State != l2.State {
		t.Error("listener state not inherited")
	}
	if l2.Backends[0].State != l1.Backends[0].State || l2.Backends[1].State != l1.Backends[2].State {
		t.Error("backend state not inherited")
	}
	if s := l2.Backends[2].State; s == nil || s == l1.Backends[1].State {
		t.Error("new backend has no state of its own")
	}
	if other := t2.Listeners[1]; other.Backends[0].State == l2.Backends[0].State {
		t.Error("two listeners share a backend's state")
	}
}

func TestReturningBackendFindsItsConnections(t *testing.T) {
	tab := NewTable(1, []*Listener{{Addr: addrA, Backends: backends(1, 1)}}, nil, nil)
	kept, forgotten := tab.Listeners[0].Backends[0].State, tab.Listeners[0].Backends[1].State
	kept.Acquire()
	tab = NewTable(2, []*Listener{{Addr: addrA}}, nil, tab)
	tab = NewTable(3, []*Listener{{Addr: addrA}}, nil, tab)
	tab = NewTable(4, []*Listener{{Addr: addrA, Backends: backends(1, 1)}}, nil, tab)
	bs := tab.Listeners[0].Backends
	if bs[0].State != kept {
		t.Error("the backend lost its live connection's count")
	}
	if bs[1].State == forgotten {
		t.Error("an idle backend's state was kept after it left")
	}
	if n := len(tab.Listeners[0].departed); n != 0 {
		t.Errorf("%d departed backends left over", n)
	}

	tab = NewTable(5, []*Listener{{Addr: addrA}}, nil, tab)
	kept.Release()
	tab = NewTable(6, []*Listener{{Addr: addrA}}, nil, tab)
	if n := len(tab.Listeners[0].departed); n != 0 {
		t.Errorf("%d departed backends remembered after their last connection", n)
	}
}

func TestReturningListenerFindsItsSessions(t *testing.T) {
	tab := NewTable(1, []*Listener{{Addr: addrA, MaxConnections: 2, Backends: backends(1)}}, nil, nil)
	state := tab.Listeners[0].State
	if !tab.Listeners[0].Admit() {
		t.Fatal("not admitted")
	}
	tab = NewTable(2, nil, nil, tab)
	tab = NewTable(3, nil, nil, tab)
	tab = NewTable(4, []*Listener{{Addr: addrA, MaxConnections: 2, Backends: backends(1)}}, nil, tab)
	l := tab.Listeners[0]
	if l.State != state || len(tab.departed) != 0 {
		t.Fatal("the listener lost its sessions while it was gone")
	}
	if !l.Admit() || l.Admit() {
		t.Error("the limit of 2 does not count the old session")
	}
	l.State.Release()
	l.State.Release()
	if tab = NewTable(5, nil, nil, tab); len(tab.departed) != 0 {
		t.Error("an idle listener is remembered")
	}
}

// TestPublishedBackendsAreNotWritten hands parts of a published table in again,
// as lingering does.
func TestPublishedBackendsAreNotWritten(t *testing.T) {
	t1 := NewTable(1, []*Listener{{Addr: addrA, Backends: backends(1, 1)}}, nil, nil)
	before := *t1.Listeners[0].Backends[0]
	other := at("127.0.0.1:6000")
	t2 := NewTable(2, []*Listener{{Addr: other, Backends: t1.Listeners[0].Backends}, t1.Listeners[0]}, nil, t1)
	if *t1.Listeners[0].Backends[0] != before {
		t.Error("a published backend was changed")
	}
	if t2.Lookup(other).Backends[0].State == before.State {
		t.Error("two listeners share a backend's state")
	}
	if t2.Lookup(addrA) != t1.Lookup(addrA) {
		t.Error("a listener handed in again was replaced")
	}
}

func TestScheduleIsRebuiltOnlyOnChange(t *testing.T) {
	for _, s := range []Strategy{RoundRobin, Random, SourceHash} {
		t1 := NewTable(1, []*Listener{{Addr: addrA, Strategy: s, Backends: backends(1, 2)}}, nil, nil)
		t2 := NewTable(2, []*Listener{{Addr: addrA, Strategy: s, Backends: backends(1, 2), MaxConnections: 5}}, nil, t1)
		t3 := NewTable(3, []*Listener{{Addr: addrA, Strategy: s, Backends: backends(1, 3)}}, nil, t2)
		a, b, c := t1.Listeners[0].slots, t2.Listeners[0].slots, t3.Listeners[0].slots
		if &a[0] != &b[0] {
			t.Errorf("%v: rebuilt without a change", s)
		}
		if &b[0] == &c[0] {
			t.Errorf("%v: not rebuilt for new weights", s)
		}
	}
}

func TestAllows(t *testing.T) {
	l := &Listener{}
	if !l.Allows(client(1)) {
		t.Error("no list must admit everybody")
	}
	l.Allow = []netip.Prefix{}
	if l.Allows(client(1)) {
		t.Error("an empty list must admit nobody")
	}
	l.Allow = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fe80::/10")}
	for a, want := range map[string]bool{
		"10.1.2.3": true, "::ffff:10.1.2.3": true, "11.0.0.1": false, "fe80::1%eth0": true, "::1": false,
	} {
		if got := l.Allows(netip.MustParseAddr(a)); got != want {
			t.Errorf("Allows(%s) = %v", a, got)
		}
	}
}

func TestStrategyNames(t *testing.T) {
	for s := RoundRobin; s <= SourceHash; s++ {
		if got, err := ParseStrategy(s.String()); err != nil || got != s {
			t.Errorf("ParseStrategy(%q) = %v, %v", s.String(), got, err)
		}
	}
	if _, err := ParseStrategy("fastest"); err == nil || !strings.Contains(err.Error(), "source_hash") {
		t.Errorf("error %v does not name what is accepted", err)
	}
	if got := Strategy(9).String(); got != "strategy(9)" {
		t.Error(got)
	}
}

func TestSocksNeverShowsItsCredentials(t *testing.T) {
	s := Socks{Addr: at("10.0.0.1:1080"), User: "alice", Password: "hunter2"}
	b := Backend{Socks: &s}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "socks", s, "ptr", &s, "backend", b)
	js, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	all := fmt.Sprintf("%v %+v %#v %s %q %v %+v %+v", s, s, s, s, s, &s, &s, b) + log.String() + string(js)
	if strings.Contains(all, "alice") || strings.Contains(all, "hunter2") {
		t.Errorf("credentials in %s", all)
	}
	if got := (Socks{Addr: s.Addr}).String(); got != "socks5://10.0.0.1:1080" {
		t.Error(got)
	}
}
