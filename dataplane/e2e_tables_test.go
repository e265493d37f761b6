package dataplane_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"dill/dataplane"
	. "dill/dataplane/dptest"
	"dill/dataplane/route"
)

// TestClientsOfSupersededTable: a port that opened for a table that is not the
// newest any more serves its clients by the route it was opened for.
func TestClientsOfSupersededTable(t *testing.T) {
	r := start(t, setup{serve: names})
	front := FreeAddr(t)
	r.publish(t, r.listener(), serving(front, r.backends[0].Addr()))
	r.engine.Supersede(newTable(r.table, r.listener())) // which the binder has yet to see
	if got, err := Ask(front); got != "A" {
		t.Errorf("%q answers, %v", got, err)
	}
}

// TestDrainOfSkippedTable: the sessions of a backend that only a table had which
// the binder had no time for are drained like others.
func TestDrainOfSkippedTable(t *testing.T) {
	const loops = 2
	r := start(t, setup{cfg: dataplane.Config{Loops: loops}, backends: 2, serve: holds})
	to := func(i int) *route.Listener {
		ln := serving(r.front, r.backends[i].Addr())
		ln.DrainTimeout = 50 * time.Millisecond
		return ln
	}
	r.publish(t, to(0), serving(FreeAddr(t), r.backends[0].Addr()))
	release := r.engine.HoldLoop(0)
	defer release()
	tasks := since("tasks")
	r.swap(to(0))
	Eventually(t, "the binder waits for the loop to close the other port", func() bool { return tasks() > 0 })
	r.swap(to(1))
	connected, drained := since("connected"), since("drain_reset")
	var peers []*Peer
	Eventually(t, "the other loop has a session", func() bool {
		p := Dial(t, r.front)
		peers = append(peers, p)
		return Poll(20*time.Millisecond, func() bool { return connected() > 0 })
	})
	Eventually(t, "the session is the new backend's", func() bool { return r.backends[1].Accepted() > 0 })
	r.swap(to(0))
	release()
	Eventually(t, "the session is drained", func() bool { return drained() > 0 })
	for _, p := range peers {
		_ = p.Close()
	}
}

// TestDrainAfterSkippedAbsence: so are those of a backend that left in a table
// which did not have the listener at all, and which the binder had no time for.
func TestDrainAfterSkippedAbsence(t *testing.T) {
	const loops = 2
	r := start(t, setup{cfg: dataplane.Config{Loops: loops}, backends: 2, serve: holds})
	to := func(i int) *route.Listener {
		ln := serving(r.front, r.backends[i].Addr())
		ln.DrainTimeout = 50 * time.Millisecond
		return ln
	}
	r.publish(t, to(0), serving(FreeAddr(t), r.backends[0].Addr()))
	connected, drained := since("connected"), since("drain_reset")
	client := Dial(t, r.front)
	Eventually(t, "there is a session", func() bool { return connected() > 0 })
	release := r.engine.HoldLoop(0)
	defer release()
	tasks := since("tasks")
	r.swap(to(0))
	Eventually(t, "the binder waits for the loop to close the other port", func() bool { return tasks() > 0 })
	r.swap()
	r.swap(to(1))
	release()
	Eventually(t, "the session is drained", func() bool { return drained() > 0 })
	_ = client.Close()
}

// TestTwoProcessesWantTheSamePorts: of two processes that open the same ports
// at the same moment each port has one, and one only.
func TestTwoProcessesWantTheSamePorts(t *testing.T) {
	const rounds, ports = 10, 60
	backend := Serve(t, Echo)
	rivals := []*Child{startEngine(t, engineTask{}), startEngine(t, engineTask{})}
	for range rounds {
		task := engineTask{Do: "swap", Fronts: freeAddrs(t, ports), Backends: []netip.AddrPort{backend.Addr()}}
		for _, c := range rivals {
			c.Tell(t, task)
		}
		for _, c := range rivals {
			var ok bool
			c.Hear(t, &ok)
		}
		Eventually(t, "each port is open", func() bool {
			first, second := listeningOf(t, rivals[0]), listeningOf(t, rivals[1])
			for _, addr := range first {
				if slices.Contains(second, addr) {
					t.Fatalf("both have %v", addr)
				}
			}
			return len(first)+len(second) == ports
		})
	}
}

func listeningOf(t *testing.T, engine *Child) (open []netip.AddrPort) {
	t.Helper()
	engine.Tell(t, engineTask{Do: "listening"})
	engine.Hear(t, &open)
	return open
}
