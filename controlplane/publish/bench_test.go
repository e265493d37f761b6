package publish

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"dill/controlplane/compile"
	"dill/controlplane/source"
)

// BenchmarkPublication is one change in a table of 2,000 listeners with 10
// backends each, from snapshot to Plane.Publish, and a change of all of them.
func BenchmarkPublication(b *testing.B) {
	for _, mode := range []string{"trusted", "settling", "everything"} {
		b.Run(mode, func(b *testing.B) {
			p := New(Config{
				Plane: new(plane), Names: new(names),
				Settings: Settings{
					Compile: compile.Options{Allowed: map[string]netip.Addr{"local": netip.MustParseAddr("127.0.0.1")}, PortMin: 1024, PortMax: 49151},
					Sources: map[string]Origin{"consul": {Confirmer: new(confirmer)}}, Settle: DefaultSettle, Linger: DefaultLinger, RemovalShare: DefaultRemovalShare,
				},
			}, slog.New(slog.DiscardHandler))
			var services []source.Service
			for i := range 2000 {
				var ids []string
				for j := range 10 {
					ids = append(ids, fmt.Sprintf("n%d", j))
				}
				services = append(services, svc(fmt.Sprintf("s%04d", i), 5000+i, ids...))
			}
			first, other := services[0], slices.Clone(services)
			for i := range other {
				other[i].Instances = slices.Clone(other[i].Instances)
				other[i].Instances[i%10].Port++
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				services[0] = svc("s0000", 5000, "n1", fmt.Sprintf("n%d", 2+i%2))
				if mode == "everything" {
					services, other = other, services
				}
				p.Sink(source.Snapshot{Source: "consul", Synced: true, Suspect: mode == "settling", Services: append([]source.Service(nil), services...)})
				p.collect(time.Now())
				p.evaluate(b.Context(), time.Now())
			}
			services[0] = first
			if n := len(p.Status().Table.Listeners); n != 2000 {
				b.Errorf("%d listeners", n)
			}
		})
	}
}
