package publish

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"testing"
	"time"

	"dill/controlplane/source"
)

// registry is a Consul whose truth is known: service number → instances.
type registry map[int]int

func (r registry) services(mark string) []source.Service {
	var out []source.Service
	for _, n := range slices.Sorted(maps.Keys(r)) {
		var ids []string
		for i := range r[n] {
			ids = append(ids, "n"+strconv.Itoa(i)+mark)
		}
		out = append(out, svc(fmt.Sprintf("s%02d", n), 5000+n, ids...))
	}
	return out
}

// some is a part of the truth, down to none of it.
func (r registry) some(rnd *rand.Rand, mark string) []source.Service {
	return slices.DeleteFunc(r.services(mark), func(source.Service) bool { return rnd.IntN(3) > 0 })
}

// Whatever a source does short of lying for long: a service that is registered
// and passing never loses its port, and in the end the table is the truth.
func TestNobodysPortClosesBecauseConsulBlinked(t *testing.T) {
	seeds := uint64(40)
	if testing.Short() {
		seeds = 10
	}
	for seed := range seeds {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			truth := registry{}
			for n := range 4 + rnd.IntN(20) {
				truth[n] = 1 + rnd.IntN(3)
			}
			within(t, func(w *world) {
				check := func(op string) {
					for n := range truth {
						at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(5000+n))
						if l := w.Status().Table.Lookup(at); l == nil || len(l.Backends) == 0 {
							w.stop()
							<-w.ran
							w.t.Fatalf("after %s: %s is closed; the log:\n%s", op, at, w.history.text.String())
						}
					}
				}
				step := func(op string, s source.Snapshot, d time.Duration) {
					w.log.Info("step", "op", op)
					w.send(s)
					w.wait(spacing)
					check(op)
					w.wait(d)
					check(op + ", later")
				}
				told := func() source.Snapshot {
					return source.Snapshot{Source: "consul", Synced: true, Services: truth.services("")}
				}
				upTo := func(d time.Duration) time.Duration { return time.Duration(rnd.Int64N(int64(d))) }
				short := func() time.Duration { return upTo(14 * time.Second) }
				step("the start", told(), time.Minute)
				for range 30 {
					w.consul.says(truth.services("")...)
					switch rnd.IntN(8) {
					case 0: // real changes; a removal of more than half is confirmed
						for n := range 24 {
							if rnd.IntN(3) == 0 {
								delete(truth, n)
							} else if rnd.IntN(3) == 0 {
								truth[n] = 1 + rnd.IntN(3)
							}
						}
						for n := range 4 { // the guard needs four
							truth[n] = max(1, truth[n])
						}
						w.consul.says(truth.services("")...)
						step("a change", told(), short())
					case 1:
						step("an outage", source.Snapshot{Source: "consul", Synced: true, Err: errors.New("refused"), Services: truth.some(rnd, "")}, upTo(time.Hour))
					case 2:
						step("a partial read", source.Snapshot{Source: "consul", Services: truth.some(rnd, "")}, upTo(time.Hour))
					case 3:
						step("an index that went back", source.Snapshot{Source: "consul", Synced: true, Suspect: true, Services: truth.some(rnd, "")}, short())
					case 4:
						step("a sudden nothing", source.Snapshot{Source: "consul", Synced: true}, short())
					case 5:
						step("everything critical", source.Snapshot{Source: "consul", Synced: true, Services: truth.services("!")}, short())
					case 6:
						step("something critical while unreachable", source.Snapshot{Source: "consul", Err: errors.New("timeout"), Services: truth.some(rnd, "!")}, short())
					case 7:
						w.consul.answer = nil
						step("a sudden nothing, and no leader to ask", source.Snapshot{Source: "consul", Synced: true}, short())
					}
					step("the truth", told(), 0)
				}
				w.consul.says(truth.services("")...)
				step("the truth", told(), 2*time.Minute)
				if got, want := len(w.Status().Table.Listeners), len(truth); got != want {
					t.Errorf("in the end %d listeners, want %d", got, want)
				}
			})
		})
	}
}
