package compile

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"dill/controlplane/source"
)

// BenchmarkCompile is 2,000 services × 10 instances: plain, with all options,
// and while every service is halfway through a change of its tags.
func BenchmarkCompile(b *testing.B) {
	plain := func(port int) []string { return []string{"dill", fmt.Sprintf("dill.listener=local:%d", port), "v1"} }
	full := func(port int) []string {
		return append(plain(port), "dill.strategy=least_conn", "dill.weight=3", "dill.allow=10.0.0.0/8,192.168.0.0/16", "dill.idle_timeout=1h")
	}
	for _, bm := range []struct {
		name string
		tags func(port, i int) []string
	}{
		{"plain", func(port, _ int) []string { return plain(port) }},
		{"options", func(port, _ int) []string { return full(port) }},
		{"changing", func(port, i int) []string {
			if i%2 == 0 {
				return plain(port)
			}
			return full(port)
		}},
	} {
		b.Run(bm.name, func(b *testing.B) {
			in := large(bm.tags)
			b.ReportAllocs()
			for b.Loop() {
				if r := Compile(config(), in); len(r.Listeners) != 2000 {
					b.Fatal(len(r.Listeners))
				}
			}
		})
	}
}

// large is 2,000 services × 10 instances, each service the owner of its port.
func large(tags func(port, i int) []string) Input {
	s := source.Snapshot{Source: "consul"}
	owners := map[netip.AddrPort]string{}
	for p := range 2000 {
		sv := source.Service{Name: fmt.Sprintf("service-%04d", p), CreateIndex: uint64(p)}
		for i := range 10 {
			sv.Instances = append(sv.Instances, source.Instance{
				ID: fmt.Sprintf("node%d/service-%04d", i, p), Host: fmt.Sprintf("10.0.%d.%d", p%250, i), Port: 3000 + p,
				Tags: tags(3000+p, i), CreateIndex: uint64(p*10 + i),
			})
		}
		s.Services = append(s.Services, sv)
		owners[netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(3000+p))] = "consul/" + sv.Name
	}
	return Input{Snapshots: []source.Snapshot{s}, Hosts: hosts, Incumbents: owners}
}

// BenchmarkMemo is a change of one of 2,000 services × 10 instances: of an
// instance's health, and of a port that closes or opens.
func BenchmarkMemo(b *testing.B) {
	all := large(func(port, _ int) []string { return []string{"dill", fmt.Sprintf("dill.listener=local:%d", port)} })
	for _, bm := range []struct {
		name   string
		change func(*source.Service)
	}{
		{"health", func(s *source.Service) {
			s.Instances = slices.Clone(s.Instances)
			s.Instances[3].Health = source.Critical
		}},
		{"port", func(s *source.Service) { s.Instances = nil }},
	} {
		b.Run(bm.name, func(b *testing.B) {
			other := all
			other.Snapshots = slices.Clone(all.Snapshots)
			other.Snapshots[0].Services = slices.Clone(all.Snapshots[0].Services)
			bm.change(&other.Snapshots[0].Services[1234])
			var m Memo
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if r := m.Compile(config(), []Input{all, other}[i%2]); len(r.Listeners) < 1999 {
					b.Fatal(len(r.Listeners))
				}
			}
		})
	}
}
