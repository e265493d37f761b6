package dataplane_test

import (
	"fmt"
	"maps"
	"net/netip"
	"testing"

	"dill/dataplane"
	. "dill/dataplane/dptest"
	"dill/dataplane/route"
)

func with(strategy route.Strategy) func(*route.Listener) {
	return func(ln *route.Listener) { ln.Strategy = strategy }
}

// TestRoundRobin: connections go to the backends in turn, whatever loop accepts
// them.
func TestRoundRobin(t *testing.T) {
	for _, loops := range []int{1, 2, 4} {
		t.Run(fmt.Sprint(loops, " loops"), func(t *testing.T) {
			r := start(t, setup{cfg: dataplane.Config{Loops: loops}, backends: 3, serve: names})
			var last [3]string
			for i := range 12 {
				got := r.ask(t)
				if i >= 3 && got != last[i%3] {
					t.Errorf("connection %d went to %s, want %s", i, got, last[i%3])
				}
				last[i%3] = got
			}
			if last[0] == last[1] || last[1] == last[2] || last[0] == last[2] {
				t.Errorf("three connections went to %v", last)
			}
		})
	}
}

// TestRoundRobinWeighted: shares follow the weights, spread and not in blocks.
func TestRoundRobinWeighted(t *testing.T) {
	heavy := make(map[netip.AddrPort]int)
	r := start(t, setup{backends: 2, serve: names, listener: func(ln *route.Listener) {
		for _, b := range ln.Backends {
			b.Weight = heavy[b.Addr] + 1
		}
	}})
	heavy[r.backends[0].Addr()] = 2
	r.publish(t, r.listener())
	counts, run, longest, last := map[string]int{}, 0, 0, ""
	for range 16 {
		got := r.ask(t)
		counts[got]++
		if got != last {
			run = 0
		}
		run, last = run+1, got
		longest = max(longest, run)
	}
	if counts["A"] != 12 || counts["B"] != 4 || longest > 4 {
		t.Errorf("weights 3 and 1: %v, at most %d in a row", counts, longest)
	}
}

// TestSwapKeepsCursor: round robin goes on where it was when a new table comes,
// also one with other listeners in it.
func TestSwapKeepsCursor(t *testing.T) {
	r := start(t, setup{backends: 2, serve: names})
	other := FreeAddr(t)
	last := r.ask(t)
	for i := range 10 {
		if i%2 == 0 {
			r.publish(t, r.listener(), serving(other, r.backends[0].Addr()))
		} else {
			r.publish(t, r.listener())
		}
		got := r.ask(t)
		if got == last {
			t.Fatalf("%s answered twice in a row, the second time after swap %d", got, i)
		}
		last = got
	}
}

// TestLeastConnections: ten held connections over two backends split 5/5.
func TestLeastConnections(t *testing.T) {
	r := start(t, setup{backends: 2, serve: holds, listener: with(route.LeastConn)})
	for i := range 10 {
		Dial(t, r.front)
		Eventually(t, "it is connected", func() bool {
			return r.backends[0].Accepted()+r.backends[1].Accepted() == int64(i+1)
		})
	}
	for _, b := range r.backends {
		if b.Accepted() != 5 {
			t.Errorf("%v has %d of 10 connections", b.Addr(), b.Accepted())
		}
	}
}

// TestLeastConnectionsAtOnce: the same when all ten come at the same moment, to
// several loops: the counts are global.
func TestLeastConnectionsAtOnce(t *testing.T) {
	r := start(t, setup{cfg: dataplane.Config{Loops: 4}, backends: 2, serve: holds, listener: with(route.LeastConn)})
	failed := make(chan error)
	for range 10 {
		go func() {
			p, err := Connect(r.front, Socket{})
			if err == nil {
				t.Cleanup(func() { p.Close() })
			}
			failed <- err
		}()
	}
	for range 10 {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
	Eventually(t, "all are connected", func() bool { return r.backends[0].Accepted()+r.backends[1].Accepted() == 10 })
	if a := r.backends[0].Accepted(); a < 4 || a > 6 {
		t.Errorf("%d of 10 connections at one backend", a)
	}
}

// TestLeastConnectionsFollowsLoad: with one held on A, ten sequential ones, each
// opened after the last one's count is back, all go to B; also over table swaps.
func TestLeastConnectionsFollowsLoad(t *testing.T) {
	r := start(t, setup{backends: 2, listener: with(route.LeastConn)})
	Dial(t, r.front)
	held, idle := r.backends[0], r.backends[1]
	select {
	case <-held.Queue():
	case <-idle.Queue():
		held, idle = idle, held
	}
	for i := range 10 {
		p := Dial(t, r.front)
		server := idle.Accept(t)
		p.Must(t, Reset())
		server.Must(t, ReadToReset(0))
		Eventually(t, "its count is back", func() bool { return dataplane.Stats().Sessions == 1 })
		if i%2 == 0 {
			r.publish(t, r.listener())
		}
	}
	if held.Accepted() != 1 || idle.Accepted() != 10 {
		t.Errorf("the busy backend got %d connections, the idle one %d", held.Accepted()-1, idle.Accepted())
	}
}

// TestRandomTwoChoices: held connections spread nearly evenly, which a single
// random choice would not do.
func TestRandomTwoChoices(t *testing.T) {
	const backends, each = 4, 25
	r := start(t, setup{backends: backends, serve: holds, listener: with(route.Random)})
	total := func() (n int64) {
		for _, b := range r.backends {
			n += b.Accepted()
		}
		return n
	}
	for i := range backends * each {
		Dial(t, r.front)
		Eventually(t, "it is connected", func() bool { return total() == int64(i+1) })
	}
	for _, b := range r.backends {
		if n := b.Accepted(); n < each-6 || n > each+6 {
			t.Errorf("%v has %d connections, want about %d", b.Addr(), n, each)
		}
	}
}

// askFrom asks from n client addresses and returns who answered each.
func askFrom(t *testing.T, r *rig, n int) map[netip.Addr]string {
	t.Helper()
	answers := make(map[netip.Addr]string)
	for i := range n {
		from := netip.AddrFrom4([4]byte{127, 50, 0, byte(i + 1)})
		p := DialFrom(t, r.front, Socket{Local: netip.AddrPortFrom(from, 0)})
		buf := make([]byte, 2)
		m, err := p.Conn().Read(buf)
		if m != 1 {
			t.Fatalf("from %v: %v", from, err)
		}
		answers[from] = string(buf[:m])
		p.Must(t, Close())
	}
	return answers
}

// TestSourceHash: a client address always gets the same backend, over swaps,
// and addresses spread over all of them.
func TestSourceHash(t *testing.T) {
	const clients = 64
	r := start(t, setup{backends: 4, serve: names, listener: with(route.SourceHash)})
	first := askFrom(t, r, clients)
	r.publish(t, r.listener())
	if again := askFrom(t, r, clients); !maps.Equal(first, again) {
		t.Errorf("clients changed their backend:\n%v\n%v", first, again)
	}
	counts := map[string]int{}
	for _, name := range first {
		counts[name]++
	}
	for _, name := range []string{"A", "B", "C", "D"} {
		if counts[name] < clients/16 {
			t.Errorf("%s has %d of %d clients", name, counts[name], clients)
		}
	}
}

// TestSourceHashMovesLittle: an added backend takes about its share, and the
// other clients stay where they were.
func TestSourceHashMovesLittle(t *testing.T) {
	const clients = 100
	r := start(t, setup{backends: 4, serve: names, listener: with(route.SourceHash)})
	before := askFrom(t, r, clients)
	r.backends = append(r.backends, Serve(t, Say("E")))
	r.publish(t, r.listener())
	moved, elsewhere := 0, 0
	for from, name := range askFrom(t, r, clients) {
		if name != before[from] {
			moved++
			if name != "E" {
				elsewhere++
			}
		}
	}
	if moved == 0 || moved > clients*2/5 || elsewhere > clients/10 {
		t.Errorf("%d of %d clients moved, %d of them between old backends", moved, clients, elsewhere)
	}
}

// TestSourceHashSkipsDeadBackend: clients of a dead backend are served by
// others meanwhile, each always by the same.
func TestSourceHashSkipsDeadBackend(t *testing.T) {
	r := start(t, setup{backends: 3, serve: names, listener: with(route.SourceHash)})
	before := askFrom(t, r, 30)
	r.backends[0].Stop()
	during := askFrom(t, r, 30)
	for from, name := range during {
		if name == "A" || before[from] != "A" && before[from] != name {
			t.Errorf("%v moved from %s to %s", from, before[from], name)
		}
	}
}
