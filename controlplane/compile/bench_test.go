package compile

import (
	"fmt"
	"net/netip"
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
			s := source.Snapshot{Source: "consul"}
			owners := map[netip.AddrPort]string{}
			for p := range 2000 {
				sv := source.Service{Name: fmt.Sprintf("service-%04d", p), CreateIndex: uint64(p)}
				for i := range 10 {
					sv.Instances = append(sv.Instances, source.Instance{
						ID: fmt.Sprintf("node%d/service-%04d", i, p), Host: fmt.Sprintf("10.0.%d.%d", p%250, i), Port: 3000 + p,
						Tags: bm.tags(3000+p, i), CreateIndex: uint64(p*10 + i),
					})
				}
				s.Services = append(s.Services, sv)
				owners[netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(3000+p))] = "consul/" + sv.Name
			}
			in := Input{Snapshots: []source.Snapshot{s}, Hosts: hosts, Incumbents: owners}
			b.ReportAllocs()
			for b.Loop() {
				if r := Compile(config(), in); len(r.Listeners) != 2000 {
					b.Fatal(len(r.Listeners))
				}
			}
		})
	}
}
