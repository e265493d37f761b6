package dataplane_test

import (
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"dill/dataplane"
	"dill/dataplane/dptest"
	"dill/dataplane/route"
)

// engineTask is what a test asks of the "engine" process: an engine that runs
// by itself, with few file descriptors.
type engineTask struct {
	Do       string // "start", "stats"
	Front    netip.AddrPort
	Backends []netip.AddrPort
	Files    uint64 // RLIMIT_NOFILE, soft and hard
}

func playEngine(parent *dptest.Parent) {
	var task engineTask
	for parent.Hear(&task) {
		switch task.Do {
		case "start":
			limit := syscall.Rlimit{Cur: task.Files, Max: task.Files}
			if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
				dptest.Die("limit files", err)
			}
			e, err := dataplane.New(dataplane.Config{Loops: 2}, slog.New(slog.NewTextHandler(io.Discard, nil)))
			if err != nil {
				dptest.Die("start engine", err)
			}
			e.Publish(newTable(nil, []*route.Listener{serving(task.Front, task.Backends...)}...))
			ok := dptest.Poll(dptest.Patience, func() bool {
				err, known := e.Listening()[task.Front]
				return known && err == nil
			})
			parent.Tell(ok)
		case "stats":
			parent.Tell(dataplane.Stats())
		}
	}
}

// TestFewDescriptors: with 64 descriptors and no limit on connections,
// established sessions keep working, the loops do not spin, queued clients stay
// queued, and accepting resumes within 200 ms of descriptors coming free.
func TestFewDescriptors(t *testing.T) {
	backend := dptest.Serve(t, dptest.Echo)
	front := dptest.FreeAddr(t)
	engine := dptest.Spawn(t, "engine")
	var ready bool
	engine.Tell(t, engineTask{Do: "start", Front: front, Backends: []netip.AddrPort{backend.Addr()}, Files: 64})
	if engine.Hear(t, &ready); !ready {
		t.Fatal("the engine does not accept")
	}

	// More clients than fit: each that is served gets its echo.
	const clients = 60
	peers := make([]*dptest.Peer, clients)
	served := make(chan int, clients)
	for i := range peers {
		peers[i] = dptest.Dial(t, front)
		peers[i].Extend(10 * dptest.Patience)
		go func() {
			if roundTrip(peers[i], make([]byte, 10)) == nil {
				served <- i
			}
		}()
	}
	var in []int
	dptest.Eventually(t, "descriptors run out", func() bool {
		for len(served) > 0 {
			in = append(in, <-served)
		}
		var s dataplane.Snapshot
		engine.Tell(t, engineTask{Do: "stats"})
		engine.Hear(t, &s)
		return s.Get("accept_paused") > 0 && len(in) >= 15
	})
	for dptest.Poll(300*time.Millisecond, func() bool { return len(served) > 0 }) {
		in = append(in, <-served) // the last ones before the pause
	}
	if len(in) == clients {
		t.Fatal("64 descriptors were enough for everybody")
	}
	var s dataplane.Snapshot
	engine.Tell(t, engineTask{Do: "stats"})
	engine.Hear(t, &s)
	if accepted := s.Get("accepted"); accepted != uint64(len(in)) {
		t.Errorf("%d clients were accepted and %d served: the others hold descriptors for nothing", accepted, len(in))
	}

	t.Run("established sessions go on, the loops do not spin", func(t *testing.T) {
		const span = 2 * time.Second
		next := time.NewTicker(100 * time.Millisecond)
		defer next.Stop()
		cpu := dptest.CPUOf(t, engine.PID())
		for begun := time.Now(); time.Since(begun) < span; <-next.C {
			for _, i := range in {
				if err := roundTrip(peers[i], make([]byte, 1000)); err != nil {
					t.Fatal(err)
				}
			}
		}
		used := dptest.CPUOf(t, engine.PID()) - cpu
		t.Logf("%v of processor time in %v with %d sessions", used, span, len(in))
		if used > span/5 {
			t.Errorf("the engine used %v of processor time in %v", used, span)
		}
	})
	t.Run("idle while it waits", func(t *testing.T) {
		// Each wake-up makes Go's monitor thread poll for some 10 ms, which costs
		// twice as much beside other busy processes: one quiet span will do.
		const span = 5 * time.Second
		quiet := false
		for try := 0; try < 3 && !quiet; try++ {
			cpu := dptest.CPUOf(t, engine.PID())
			dptest.Steady(t, span, "nobody is let in", func() bool { return len(served) == 0 })
			used := dptest.CPUOf(t, engine.PID()) - cpu
			t.Logf("%v of processor time in %v", used, span)
			quiet = used <= span/20
		}
		if !quiet {
			t.Errorf("the engine never used less than %v", span/20)
		}
	})
	t.Run("big transfers do without pipes", func(t *testing.T) {
		const n = 8 << 20
		p := peers[in[0]]
		p.Mirror()
		p.Must(t, dptest.Both([]dptest.Op{dptest.Write(n)}, []dptest.Op{dptest.Read(n)}))
		var s dataplane.Snapshot
		engine.Tell(t, engineTask{Do: "stats"})
		engine.Hear(t, &s)
		if s.Get("pipe_shortage") == 0 {
			t.Error("there was a descriptor left for a pipe")
		}
	})
	t.Run("accepting resumes", func(t *testing.T) {
		var delays []time.Duration
		for len(in) > 0 && len(delays) < clients-len(in) && len(delays) < 20 {
			_ = peers[in[0]].Close()
			in = in[1:]
			begun := time.Now()
			select {
			case i := <-served:
				in = append(in, i)
				delays = append(delays, time.Since(begun))
			case <-time.After(dptest.Patience):
				t.Fatal("nobody is let in")
			}
		}
		slices.Sort(delays)
		t.Logf("let in after %v", delays)
		if p95 := delays[len(delays)*95/100]; p95 > 200*time.Millisecond {
			t.Errorf("p95 is %v, want 200ms at most", p95)
		}
	})
	for _, p := range peers {
		_ = p.Close()
	}
}
