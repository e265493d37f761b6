package compile

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"dill/controlplane/source"
	"dill/dataplane/route"
)

// step changes a few things of in, and leaves the rest the very same memory, as
// sources do.
func step(in Input, r *rand.Rand) Input {
	other := world(r)
	in.Snapshots = slices.Clone(in.Snapshots)
	switch r.IntN(8) {
	case 0:
		in.Incumbents, in.InUse = other.Incumbents, other.InUse
		return in
	case 1:
		in.Snapshots = in.Snapshots[:max(1, len(in.Snapshots)-1)]
		return in
	case 2:
		if len(in.Snapshots) < len(other.Snapshots) {
			in.Snapshots = append(in.Snapshots, other.Snapshots[len(in.Snapshots)])
		}
		return in
	}
	k := r.IntN(len(in.Snapshots))
	s := &in.Snapshots[k]
	s.Services = slices.Clone(s.Services)
	from := other.Snapshots[slices.IndexFunc(other.Snapshots, func(o source.Snapshot) bool { return o.Source == s.Source })].Services
	switch {
	case len(from) == 0 || len(s.Services) == 0 || r.IntN(4) == 0:
		s.Services = from
	case r.IntN(3) == 0:
		i := r.IntN(len(s.Services))
		s.Services = slices.Delete(s.Services, i, i+1)
	default:
		i := r.IntN(len(s.Services))
		sv := &s.Services[i]
		sv.Instances = slices.Clone(sv.Instances) // often the same in other memory
		if n := len(sv.Instances); n > 0 && r.IntN(4) > 0 {
			inst := &sv.Instances[r.IntN(n)]
			inst.Health = source.Health(r.IntN(4))
			if len(inst.Tags) > 2 && r.IntN(2) == 0 {
				inst.Tags = slices.Concat(inst.Tags[:1], inst.Tags[2:])
			}
		}
		if r.IntN(3) == 0 {
			*sv = source.Service{Name: sv.Name, CreateIndex: sv.CreateIndex, Instances: from[r.IntN(len(from))].Instances}
		}
	}
	return in
}

// TestMemo: what a Memo makes of a sequence of inputs is what Compile makes of
// each, and stays as it was when the next ones come.
func TestMemo(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 2))
		var m Memo
		opt, in := config(), world(r)
		here := false
		opt.Local = func(netip.Addr) bool { return here }
		names := map[string]netip.Addr{}
		in.Hosts = func(host string) ([]netip.Addr, error) {
			if a, ok := names[host]; ok {
				return []netip.Addr{a}, nil
			}
			return hosts(host)
		}
		var table *route.Table
		for i := range 60 {
			switch r.IntN(15) {
			case 0:
				opt.AllowWarning = !opt.AllowWarning
			case 1:
				opt.Reserved = []netip.AddrPort{ap(fmt.Sprint("127.0.0.1:", 4999+r.IntN(3)))}
			case 2:
				names["slow.test"] = netip.AddrFrom4([4]byte{127, 0, 0, byte(1 + r.IntN(2))})
			case 3:
				in.Bound = nil
				for _, a := range []string{"0.0.0.0:5000", "127.0.0.1:5000", "127.0.0.1:5001", "192.0.2.1:5000", "[::]:5000"} {
					if r.IntN(2) == 0 {
						in.Bound = append(in.Bound, ap(a))
					}
				}
			case 5:
				opt.MaxPerService, opt.MaxListeners = r.IntN(4), r.IntN(4)
			case 4:
				here = !here
				m.Moved()
			default:
				in = step(in, r)
			}
			want, got := Compile(opt, in), m.Compile(opt, in)
			if !reflect.DeepEqual(parts(got), parts(want)) {
				t.Fatalf("seed %d, step %d:\ngot  %s\nwant %s", seed, i, text(got), text(want))
			}
			// What is in a table comes back to the next one.
			table = route.NewTable(uint64(i), got.Listeners, got.Refused, table)
			for k, l := range table.Listeners {
				if l.Addr != want.Listeners[k].Addr || l.Owner != want.Listeners[k].Owner || len(l.Backends) != len(want.Listeners[k].Backends) {
					t.Fatalf("seed %d, step %d: the table has %+v", seed, i, l)
				}
			}
			if r.IntN(3) == 0 {
				m.Compile(opt, step(in, r)) // one that is not published
			}
		}
	}
}

// parts is a result without what route.NewTable adds to its listeners.
func parts(r Result) (all []any) {
	for _, l := range r.Listeners {
		all = append(all, l.Addr, l.Owner, l.Strategy, l.MaxConnections, l.IdleTimeout, l.DrainTimeout, l.Allow)
		for _, b := range l.Backends {
			c := *b
			c.State = nil
			all = append(all, c)
		}
	}
	return append(all, r.Pending, slices.Clip(r.Refused))
}

func text(r Result) string { return fmt.Sprintf("%q refused %+v", served(r), r.Refused) }

// TestMemoWorksOutWhatChanged: a service that did not change costs nothing.
func TestMemoWorksOutWhatChanged(t *testing.T) {
	t.Parallel()
	var m Memo
	in := Input{Snapshots: []source.Snapshot{consul(
		svc("a", 1, inst(1, claim5000)), svc("b", 2, inst(2, "dill.listener=local:5001")), svc("c", 3, inst(3, "dill.listener=local:5002")),
	)}}
	before := m.Compile(config(), in).Listeners
	in.Snapshots = []source.Snapshot{consul(slices.Clone(in.Snapshots[0].Services)...)}
	in.Snapshots[0].Services[1].Instances = []source.Instance{inst(4, "dill.listener=local:5001")}
	after := m.Compile(config(), in).Listeners
	if after[0] != before[0] || after[1] == before[1] || after[2] != before[2] {
		t.Errorf("listeners were %p %p %p and are %p %p %p", before[0], before[1], before[2], after[0], after[1], after[2])
	}
	// A backend that becomes one of dill's own listeners is refused there.
	loop := inst(5, claim5000)
	loop.Host, loop.Port = "127.0.0.1", 5003
	in.Snapshots[0].Services[0].Instances = []source.Instance{loop}
	wantServed(t, m.Compile(config(), in), "127.0.0.1:5000 consul/a i5", "127.0.0.1:5001 consul/b i4", "127.0.0.1:5002 consul/c i3")
	in.Snapshots = append(in.Snapshots, source.Snapshot{Source: "file", Services: []source.Service{svc("d", 1, inst(6, "dill.listener=local:5003"))}})
	in.Bound = []netip.AddrPort{ap("127.0.0.1:5000"), ap("127.0.0.1:5003")}
	wantServed(t, m.Compile(config(), in), "127.0.0.1:5000 consul/a", "127.0.0.1:5001 consul/b i4", "127.0.0.1:5002 consul/c i3", "127.0.0.1:5003 file/d i6")
	in.Snapshots, in.Bound = in.Snapshots[:1], in.Bound[:1]
	wantServed(t, m.Compile(config(), in), "127.0.0.1:5000 consul/a i5", "127.0.0.1:5001 consul/b i4", "127.0.0.1:5002 consul/c i3")
}

// TestMemoOfALoser: what happens while a claim is refused is not missed.
func TestMemoOfALoser(t *testing.T) {
	t.Parallel()
	loop := inst(1, claim5000)
	loop.Host, loop.Port = "127.0.0.1", 5001
	a, b := svc("a", 1, loop), svc("b", 2, inst(2, claim5000))
	c := svc("c", 3, inst(3, "dill.listener=local:5001"))
	var m Memo
	for _, step := range []struct {
		owner    string
		services []source.Service
		want     []string
	}{
		{"consul/a", []source.Service{a, b}, []string{"127.0.0.1:5000 consul/a i1"}},
		{"consul/b", []source.Service{a, b, c}, []string{"127.0.0.1:5000 consul/b i2", "127.0.0.1:5001 consul/c i3"}},
		{"consul/a", []source.Service{a, b, c}, []string{"127.0.0.1:5000 consul/a", "127.0.0.1:5001 consul/c i3"}},
	} {
		in := Input{Snapshots: []source.Snapshot{consul(step.services...)}, Incumbents: map[netip.AddrPort]string{ap("127.0.0.1:5000"): step.owner}}
		if len(step.services) == 3 {
			in.Bound = []netip.AddrPort{ap("127.0.0.1:5000"), ap("127.0.0.1:5001")}
		}
		wantServed(t, m.Compile(config(), in), step.want...)
	}
}
