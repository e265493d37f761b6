package dataplane_test

import (
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
// by itself, with few file descriptors. Each is answered.
type engineTask struct {
	Do       string           // "start" and "publish": are all open; "swap" does not wait; "listening": who is open; "stats": a Snapshot; "open": how many were
	Fronts   []netip.AddrPort // of the table to publish
	Backends []netip.AddrPort
	Files    uint64 // RLIMIT_NOFILE, soft and hard; 0 leaves it
	Budget   bool   // the engine knows of it
	Limit    int    // Config.MaxConnections
	Open     int    // files to open, for as long as the process lives
}

func playEngine(parent *dptest.Parent) {
	var engine *dataplane.Engine
	var table *route.Table
	var task engineTask
	swap := func() {
		var all []*route.Listener
		for _, front := range task.Fronts {
			all = append(all, serving(front, task.Backends...))
		}
		table = newTable(table, all...)
		engine.Publish(table)
	}
	publish := func() bool {
		swap()
		return dptest.Poll(dptest.Patience, func() bool {
			for _, err := range engine.Listening() {
				if err != nil {
					return false
				}
			}
			return true
		})
	}
	for ; parent.Hear(&task); task = (engineTask{}) {
		switch task.Do {
		case "start":
			if limit := (syscall.Rlimit{Cur: task.Files, Max: task.Files}); task.Files > 0 {
				if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
					dptest.Die("limit files", err)
				}
			}
			cfg := dataplane.Config{Loops: 2, MaxConnections: task.Limit}
			if task.Budget {
				cfg.OpenFiles = task.Files
			}
			var err error
			if engine, err = dataplane.New(cfg, slog.New(slog.DiscardHandler)); err != nil {
				dptest.Die("start engine", err)
			}
			parent.Tell(publish())
		case "publish":
			parent.Tell(publish())
		case "swap":
			swap()
			parent.Tell(true)
		case "listening":
			open := []netip.AddrPort{}
			for addr, err := range engine.Listening() {
				if err == nil {
					open = append(open, addr)
				}
			}
			parent.Tell(open)
		case "stats":
			parent.Tell(dataplane.Stats())
		case "open":
			n := 0
			for n < task.Open {
				if _, err := syscall.Dup(0); err != nil {
					break
				}
				n++
			}
			parent.Tell(n)
		}
	}
}

// startEngine has a process run an engine and waits until all fronts are open.
func startEngine(t *testing.T, task engineTask) *dptest.Child {
	t.Helper()
	engine := dptest.Spawn(t, "engine")
	task.Do = "start"
	tellEngine(t, engine, task)
	return engine
}

// tellEngine has a table published and waits until it is in force.
func tellEngine(t *testing.T, engine *dptest.Child, task engineTask) {
	t.Helper()
	engine.Tell(t, task)
	var ok bool
	if engine.Hear(t, &ok); !ok {
		t.Fatal("the engine does not open its ports")
	}
}

func statsOf(t *testing.T, engine *dptest.Child) (s dataplane.Snapshot) {
	t.Helper()
	engine.Tell(t, engineTask{Do: "stats"})
	engine.Hear(t, &s)
	return s
}

// TestFewDescriptors: with 64 descriptors and no limit on connections,
// established sessions keep working, the loops do not spin, queued clients stay
// queued, and accepting resumes within 200 ms of descriptors coming free.
func TestFewDescriptors(t *testing.T) {
	backend := dptest.Serve(t, dptest.Echo)
	front := dptest.FreeAddr(t)
	engine := startEngine(t, engineTask{Fronts: []netip.AddrPort{front}, Backends: []netip.AddrPort{backend.Addr()}, Files: 64})

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
		return statsOf(t, engine).Get("accept_paused") > 0 && len(in) >= 15
	})
	// Everybody who is accepted is served: nobody holds a descriptor for nothing.
	var accepted uint64
	if !dptest.Poll(dptest.Patience, func() bool {
		accepted = statsOf(t, engine).Get("accepted")
		for len(served) > 0 {
			in = append(in, <-served)
		}
		return accepted == uint64(len(in))
	}) {
		t.Errorf("%d clients were accepted and %d served: the others hold descriptors for nothing", accepted, len(in))
	}
	if len(in) == clients {
		t.Fatal("64 descriptors were enough for everybody")
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
		if statsOf(t, engine).Get("pipe_shortage") == 0 {
			t.Error("there was a descriptor left for a pipe")
		}
	})
	t.Run("accepting resumes", func(t *testing.T) {
		var delays []time.Duration
		for len(in) > 0 && len(delays) < clients-len(in) && len(delays) < 20 {
			ended := statsOf(t, engine).Get("finished")
			_ = peers[in[0]].Close()
			in = in[1:]
			// How long the peers and dill take to end a session is not the question.
			dptest.Eventually(t, "descriptors come free", func() bool { return statsOf(t, engine).Get("finished") > ended })
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
		if p95 := delays[(len(delays)*95+99)/100-1]; p95 > 200*time.Millisecond {
			t.Errorf("p95 is %v, want 200ms at most", p95)
		}
	})
	for _, p := range peers {
		_ = p.Close()
	}
}
