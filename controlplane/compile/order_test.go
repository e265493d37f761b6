package compile

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"dill/controlplane/source"
)

// world makes a random input full of conflicts and mistakes.
func world(r *rand.Rand) Input {
	pick := func(from ...string) string { return from[r.IntN(len(from))] }
	in := Input{Hosts: hosts, Incumbents: map[netip.AddrPort]string{}}
	for _, from := range []string{"consul", "file", "nomad", "http"} {
		s := source.Snapshot{Source: from}
		for name := range r.IntN(5) {
			sv := svc(fmt.Sprint("s", name), uint64(r.IntN(3)))
			for id := range r.IntN(5) {
				var tags []string
				for range r.IntN(6) {
					tags = append(tags, pick(
						claim5000, "dill.listener=any:5000", "dill.listener=lan:5000", "dill.listener=local:5001", "dill.listener=x:1",
						"dill.listener=six:5000", "dill.listener=any6:5000",
						"dill.weight=2", "dill.weight=3", "dill.allow=10.0.0.0/8", "dill.allow=10.1.0.0/16,9.9.9.9", "dill.allow=?",
						"dill.strategy=random", "dill.strategy=x", "dill.drain=1s", "dill.proxy_protocol=v1", "dill.x", "y"))
				}
				i := inst(id, tags...)
				i.Host = pick("10.0.0.1", "10.0.0.2", "127.0.0.1", "192.0.2.1", "web.test", "slow.test")
				i.Port = []int{80, 5000, 0}[r.IntN(3)]
				i.CreateIndex = uint64(r.IntN(3))
				i.Health = source.Health(r.IntN(4))
				if r.IntN(10) == 0 {
					i.Tags = i.Tags[1:]
				}
				sv.Instances = append(sv.Instances, i)
			}
			s.Services = append(s.Services, sv)
		}
		in.Snapshots = append(in.Snapshots, s)
		if a := ap(pick("127.0.0.1:5000", "0.0.0.0:5000", "192.0.2.1:5000", "[::]:5000")); !slices.Contains(in.InUse, a) {
			in.InUse = append(in.InUse, a)
		}
		for range r.IntN(3) {
			in.Incumbents[ap(pick("127.0.0.1:5000", "0.0.0.0:5000", "127.0.0.1:5001", "[::]:5000"))] = from + "/s" + fmt.Sprint(r.IntN(5))
		}
	}
	slices.SortFunc(in.InUse, netip.AddrPort.Compare)
	return in
}

// shuffled is in in another order, down to the tags.
func shuffled(in Input, r *rand.Rand) Input {
	shuffle := func(n int, swap func(i, j int)) { r.Shuffle(n, swap) }
	in.Snapshots = slices.Clone(in.Snapshots)
	shuffle(len(in.Snapshots), func(i, j int) { in.Snapshots[i], in.Snapshots[j] = in.Snapshots[j], in.Snapshots[i] })
	for k := range in.Snapshots {
		s := &in.Snapshots[k]
		s.Services = slices.Clone(s.Services)
		shuffle(len(s.Services), func(i, j int) { s.Services[i], s.Services[j] = s.Services[j], s.Services[i] })
		for m := range s.Services {
			sv := &s.Services[m]
			sv.Instances = slices.Clone(sv.Instances)
			shuffle(len(sv.Instances), func(i, j int) { sv.Instances[i], sv.Instances[j] = sv.Instances[j], sv.Instances[i] })
			for o := range sv.Instances {
				i := &sv.Instances[o]
				i.Tags = slices.Clone(i.Tags)
				shuffle(len(i.Tags), func(a, b int) { i.Tags[a], i.Tags[b] = i.Tags[b], i.Tags[a] })
			}
		}
	}
	return in
}

// TestOrderDoesNotMatter also checks what holds for every result: one owner a
// port, sorted, stable as its own incumbent, and an input left alone.
func TestOrderDoesNotMatter(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 1))
		in := world(r)
		before := fmt.Sprintf("%+v", in.Snapshots)
		want := Compile(config(), in)
		if after := fmt.Sprintf("%+v", in.Snapshots); after != before {
			t.Fatalf("seed %d: the input was changed", seed)
		}
		for range 3 {
			if got := Compile(config(), shuffled(in, r)); !reflect.DeepEqual(got, want) {
				t.Fatalf("seed %d: order matters:\n%q %+v\n%q %+v", seed, served(got), got.Refused, served(want), want.Refused)
			}
		}
		owners := map[netip.AddrPort]string{}
		for i, l := range want.Listeners {
			owners[l.Addr] = l.Owner
			for _, o := range want.Listeners[:i] {
				if o.Addr.Compare(l.Addr) >= 0 || overlaps(o.Addr, l.Addr) && o.Owner != l.Owner {
					t.Fatalf("seed %d: %v of %s beside %v of %s", seed, o.Addr, o.Owner, l.Addr, l.Owner)
				}
			}
			for _, b := range l.Backends {
				if b.Weight < 1 || !b.Addr.IsValid() || b.Addr.Port() == 0 {
					t.Fatalf("seed %d: backend %+v", seed, b)
				}
			}
		}
		for _, f := range want.Refused {
			checkPrintable(t, f)
		}
		again := in
		again.Incumbents = owners
		if got := Compile(config(), again); !slices.Equal(served(got), served(want)) {
			t.Fatalf("seed %d: an incumbent lost its port without a change:\n%q\n%q\n%v", seed, served(want), served(got),
				slices.Collect(maps.Values(in.Incumbents)))
		}
	}
}
