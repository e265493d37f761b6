package dataplane_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"dill/dataplane"
	. "dill/dataplane/dptest"
)

// TestWatchdogReportsStall: a batch of a loop that takes longer than 100 ms is
// counted and logged, and the loop goes on.
func TestWatchdogReportsStall(t *testing.T) {
	r := start(t, setup{cfg: dataplane.Config{Loops: 1}})
	client, server := r.open(t)
	stalls := since("stalls")
	r.stall(t, 300*time.Millisecond)
	client.Must(t, Write(10))
	Within(t, 2*time.Second, "the stall is counted", func() bool { return stalls() == 1 })
	Within(t, 2*time.Second, "the stall is logged", func() bool { return r.log.contains("level=WARN") || r.log.contains("level=ERROR") })
	server.Must(t, Read(10))
	pingPong(t, client, server)
	if stalls() != 1 {
		t.Errorf("one stall was counted %d times", stalls())
	}
}

// TestParkedLoopIsNoStall: a loop that has nothing to do is not reported.
func TestParkedLoopIsNoStall(t *testing.T) {
	r := start(t, setup{cfg: dataplane.Config{Loops: 2}})
	client, server := r.open(t)
	pingPong(t, client, server)
	stalls := since("stalls")
	Steady(t, 400*time.Millisecond, "nothing is reported", func() bool { return stalls() == 0 })
}

// TestPanicKillsOneSession: the session that meets a bug is reset on both
// sides, counted and logged with a stack; its neighbours on the loop go on.
func TestPanicKillsOneSession(t *testing.T) {
	eachMode(t, setup{cfg: dataplane.Config{Loops: 1}}, func(t *testing.T, r *rig) {
		neighbour, neighbourServer := r.open(t)
		client, server := r.open(t)
		panics := since("panics")
		r.inject(t, r.engine.PanicNext)
		client.Must(t, Write(10), ReadToReset(0))
		server.Must(t, ReadToReset(-1))
		pingPong(t, neighbour, neighbourServer)
		r.play(t, []Op{Write(10), ReadToEOF(0), Close()}, []Op{Read(10), Close()})
		counts(t, "panics", panics, 1)
		Eventually(t, "the stack is logged", func() bool { return r.log.contains("PanicNext") })
	})
}

// TestPanicInATask: what a loop does between events is contained like them: the
// session at hand is reset, no other one.
func TestPanicInATask(t *testing.T) {
	r := start(t, setup{cfg: dataplane.Config{Loops: 1}})
	client, server := r.open(t)
	neighbour, neighbourServer := r.open(t)
	panics := since("panics")
	r.inject(t, r.engine.PanicInTask)
	client.Must(t, ReadToReset(0))
	server.Must(t, ReadToReset(0))
	pingPong(t, neighbour, neighbourServer)
	r.play(t, []Op{Write(10), ReadToEOF(0), Close()}, []Op{Read(10), Close()})
	counts(t, "panics", panics, 2)
}

// TestBusyPoll: a loop polls while one client and its server take turns, and
// only then: not for messages with pauses between, not for big streams, not for
// long once the last message has passed.
func TestBusyPoll(t *testing.T) {
	const turns = 200
	talk := func(t *testing.T, r *rig, turns int, pause time.Duration) (polls uint64) {
		client := Dial(t, r.front)
		polled := since("busy_polls")
		for range turns {
			if err := roundTrip(client, make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
			if pause > 0 {
				Poll(pause, func() bool { return false })
			}
		}
		return polled()
	}
	// One second is longer than any pause between two turns.
	alone := func(busy time.Duration) setup {
		return setup{cfg: dataplane.Config{Loops: 1, BusyPoll: busy}, serve: echoes}
	}
	t.Run("turns", func(t *testing.T) {
		r := start(t, alone(time.Second))
		if n := talk(t, r, turns, 0); n < turns {
			t.Errorf("polled %d times in %d turns", n, turns)
		}
		Poll(time.Second, func() bool { return false }) // the last one
		quiet(t, "after the last turn")
	})
	t.Run("pauses", func(t *testing.T) {
		if n := talk(t, start(t, alone(10*time.Millisecond)), 20, 20*time.Millisecond); n > 0 {
			t.Errorf("polled %d times between messages with pauses", n)
		}
	})
	t.Run("switched off", func(t *testing.T) {
		if n := talk(t, start(t, alone(-1)), turns, 0); n > 0 {
			t.Errorf("polled %d times", n)
		}
	})
	t.Run("big stream", func(t *testing.T) {
		const n = 64 << 20
		r := start(t, setup{cfg: dataplane.Config{Loops: 1, BusyPoll: time.Second}})
		polls, splices := since("busy_polls"), since("splices")
		r.play(t, []Op{Write(n), ReadToEOF(0), Close()}, []Op{Read(n), Close()})
		if polls() > splices()/10 {
			t.Errorf("polled %d times in %d splices", polls(), splices())
		}
	})
}

// TestNoNapsWithoutAPOfTheirOwn: loops neither wait nor poll inside their own
// epoll set, which holds a P, while there are more of them than Ps; they do again
// when GOMAXPROCS has grown. The limits of a cgroup change it at run time.
func TestNoNapsWithoutAPOfTheirOwn(t *testing.T) {
	const loops = 3
	r := start(t, setup{cfg: dataplane.Config{Loops: loops, BusyPoll: time.Second}, serve: echoes})
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(loops))
	client := Dial(t, r.front)
	polled := func() uint64 {
		polls := since("busy_polls")
		for range 100 {
			if err := roundTrip(client, make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
		}
		return polls()
	}
	for _, procs := range []int{loops, loops - 1, 1, loops + 1} {
		runtime.GOMAXPROCS(procs)
		Eventually(t, "the engine has noticed", func() bool { return r.engine.MayNap() == (procs >= loops) })
		if n := polled(); (n > 0) != (procs >= loops) {
			t.Errorf("%d loops polled %d times with %d Ps", loops, n, procs)
		}
	}
}

// underBulk starts a rig on one loop that relays endless streams between peers
// in another process, beside its own listener.
func underBulk(t *testing.T, streams int) *rig {
	r := start(t, setup{cfg: dataplane.Config{Loops: 1}, serve: echoes})
	load := Spawn(t, "load") // after the rig, so that it ends first
	sink, bulk := FreeAddr(t), FreeAddr(t)
	do(t, load, loadTask{Do: "sink", Addr: sink})
	r.publish(t, r.listener(), serving(bulk, sink))
	copied, spliced := since("copied_bytes"), since("spliced_bytes")
	do(t, load, loadTask{Do: "bulk", Addr: bulk, N: streams})
	t.Cleanup(func() { do(t, load, loadTask{Do: "drop"}) })
	Eventually(t, "the streams run", func() bool { return copied()+spliced() > 16<<20 })
	return r
}

// TestPostedTasksRunUnderLoad: a table that is published while a loop is busy
// with bulk transfers takes effect soon: posted tasks are not starved.
func TestPostedTasksRunUnderLoad(t *testing.T) {
	const tables = 20
	r := underBulk(t, 4)
	var delays []time.Duration
	for range tables {
		begun := time.Now()
		r.publish(t, r.listener(), serving(FreeAddr(t), r.backends[0].Addr()))
		delays = append(delays, time.Since(begun))
	}
	slices.Sort(delays)
	t.Logf("published in %v, at most %v", delays[tables/2], delays[tables-1])
	if delays[tables/2] > 100*time.Millisecond {
		t.Errorf("half of the tables took longer than %v", delays[tables/2])
	}
}

// TestBulkDoesNotStarveMessages: messages pass between bulk streams on the same
// loop, however many those are.
func TestBulkDoesNotStarveMessages(t *testing.T) {
	const messages = 100
	for _, streams := range []int{4, 128} {
		t.Run(fmt.Sprint(streams, " streams"), func(t *testing.T) {
			client := Dial(t, underBulk(t, streams).front)
			var delays []time.Duration
			for range messages {
				begun := time.Now()
				if err := roundTrip(client, make([]byte, 100)); err != nil {
					t.Fatal(err)
				}
				delays = append(delays, time.Since(begun))
			}
			slices.Sort(delays)
			t.Logf("messages between streams: median %v, p99 %v", delays[messages/2], delays[messages*99/100])
			if p90 := delays[messages*9/10]; p90 > 100*time.Millisecond {
				t.Errorf("p90 of messages between bulk streams is %v", p90)
			}
		})
	}
}

// TestMessagesGoBeforeBulk: a loop that finds bulk streams and a message ready
// serves the message first, although the streams were ready before.
func TestMessagesGoBeforeBulk(t *testing.T) {
	r := underBulk(t, 8)
	client := Dial(t, r.front)
	client.Mirror()
	client.Must(t, Write(100), Read(100))
	for range 20 {
		held := r.engine.Hold()
		// What the kernel has acknowledged has reached the loop's socket.
		client.Must(t, Write(100), Acked())
		if n := held.Release(); n > 0 {
			t.Fatalf("%d splices before the message", n)
		}
		client.Must(t, Read(100))
	}
}

// TestSlotsAndDescriptorsAreReused: sessions that end in every way while others
// begin never see an event or a byte of another.
func TestSlotsAndDescriptorsAreReused(t *testing.T) {
	const workers, rounds = 8, 30
	eachMode(t, setup{cfg: dataplane.Config{Loops: 2}}, func(t *testing.T, r *rig) {
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				random := rand.New(rand.NewPCG(uint64(w), 1))
				for i := range rounds {
					if err := oneOfMany(t, r, random); err != nil {
						t.Errorf("worker %d, round %d: %v", w, i, err)
						return
					}
				}
			})
		}
		wg.Wait()
		Eventually(t, "all sessions are gone", func() bool { return dataplane.Stats().Sessions == 0 })
	})
}

// oneOfMany is a session of random size and end.
func oneOfMany(t *testing.T, r *rig, random *rand.Rand) error {
	client, server, err := r.tryOpen(Socket{})
	if err != nil {
		return err
	}
	defer client.Close()
	defer server.Close()
	n := int64(random.IntN(200_000))
	ends := []script{
		{"clean", []Op{Write(n), HalfClose(), ReadToEOF(n)}, []Op{ReadToEOF(n), Write(n), Close()}},
		{"client resets", []Op{Write(n), Acked(), Reset()}, []Op{ReadToReset(n)}},
		{"server resets", []Op{ReadToReset(n)}, []Op{Write(n), Acked(), Reset()}},
		{"client resets a sender", []Op{Read(n), Reset()}, []Op{WriteToReset()}},
		{"server resets a sender", []Op{WriteToReset()}, []Op{Read(n), Reset()}},
		{"abandoned", []Op{Write(n)}, []Op{Read(n / 2)}},
	}
	s := ends[random.IntN(len(ends))]
	var wg sync.WaitGroup
	var serverErr error
	wg.Go(func() { serverErr = server.Run(s.server...) })
	clientErr := client.Run(s.client...)
	wg.Wait()
	if clientErr != nil || serverErr != nil {
		return fmt.Errorf("%s, %d bytes: client: %v, server: %v", s.name, n, clientErr, serverErr)
	}
	return nil
}
