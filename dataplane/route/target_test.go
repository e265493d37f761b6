package route

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"
)

// named is a backend that a proxy is to look up.
func named(host string, port uint16) *Backend {
	return &Backend{Addr: netip.AddrPortFrom(netip.Addr{}, port), Host: host, Weight: 1, Socks: &Socks{Addr: at("10.0.0.9:1080")}}
}

func TestTarget(t *testing.T) {
	for want, b := range map[string]*Backend{
		"10.0.0.1:1":      {Addr: at("10.0.0.1:1")},
		"[fd00::1]:80":    {Addr: at("[fd00::1]:80")},
		"db.internal:543": named("db.internal", 543),
	} {
		if got := b.Target(); got != want {
			t.Errorf("target %s, want %s", got, want)
		}
	}
}

// TestNamesAreTargets: backends on one port that differ in their names alone are
// kept apart, each inherits its own state, and each has clients of its own.
func TestNamesAreTargets(t *testing.T) {
	for _, strategy := range []Strategy{RoundRobin, LeastConn, Random, SourceHash} {
		build := func(prev *Table, hosts ...string) *Table {
			l := &Listener{Addr: addrA, Strategy: strategy}
			for _, h := range hosts {
				l.Backends = append(l.Backends, named(h, 80))
			}
			return NewTable(1, []*Listener{l}, nil, prev)
		}
		first := build(nil, "b", "a", "a")
		old := first.Listeners[0]
		if len(old.Backends) != 2 || old.Backends[0].Host != "a" || old.Backends[1].Host != "b" {
			t.Fatalf("%v: %d backends", strategy, len(old.Backends))
		}
		seen := map[string]int{}
		for i := range 1000 {
			seen[old.Backends[pick(old, 1, client(i))].Host]++
		}
		if seen["a"] < 300 || seen["b"] < 300 {
			t.Errorf("%v: clients %v", strategy, seen)
		}
		if again := build(first, "a", "b"); again.Listeners[0] != old {
			t.Errorf("%v: the same names are another listener", strategy)
		}
		next := build(first, "b", "c").Listeners[0]
		if next == old || next.Backend(old.Backends[1]).State != old.Backends[1].State {
			t.Errorf("%v: b lost its state", strategy)
		}
		if next.Backend(old.Backends[0]) != nil || next.Backends[1].State == old.Backends[0].State {
			t.Errorf("%v: c is taken for a", strategy)
		}
	}
}

// TestEveryFieldTakesPartInEquality: one that did not would never reach a table
// whose predecessor differs in it alone.
func TestEveryFieldTakesPartInEquality(t *testing.T) {
	each := func(kind reflect.Type, but []string, differs func(change func(v reflect.Value)) bool) {
		for f := range kind.Fields() {
			if !f.IsExported() || slices.Contains(but, f.Name) {
				continue
			}
			other := reflect.New(f.Type).Elem()
			switch v := other.Addr().Interface().(type) {
			case *netip.AddrPort:
				*v = at("10.9.9.9:9")
			case **Socks:
				*v = &Socks{User: "ann"}
			case *[]netip.Prefix:
				*v = []netip.Prefix{}
			case *string:
				*v = "other"
			case *bool:
				*v = true
			default:
				if other.CanUint() {
					other.SetUint(1)
				} else {
					other.SetInt(1)
				}
			}
			if !differs(func(v reflect.Value) { v.FieldByName(f.Name).Set(other) }) {
				t.Errorf("%s.%s does not count", kind, f.Name)
			}
		}
	}
	each(reflect.TypeFor[Backend](), []string{"State"}, func(change func(reflect.Value)) bool {
		var a, b Backend
		change(reflect.ValueOf(&b).Elem())
		return !a.Same(&b) && !b.Same(&a)
	})
	each(reflect.TypeFor[Listener](), []string{"State", "Addr", "Backends"}, func(change func(reflect.Value)) bool {
		var a, b Listener
		change(reflect.ValueOf(&b).Elem())
		return !a.SameOptions(&b) && !b.SameOptions(&a)
	})
}
