package dataplane

import (
	"fmt"
	"reflect"
	"runtime/metrics"
	"strings"
	"sync"
	"sync/atomic"
)

// counters are one loop's. Only the loop adds to them, and the watchdog to
// Stalls; anybody may read.
type counters struct {
	Accepted       atomic.Uint64 `stat:"accepted"`          // connections taken off a listener's queue
	Refused        atomic.Uint64 `stat:"refused_limit"`     // reset at once: a connection limit
	Denied         atomic.Uint64 `stat:"refused_allow"`     // reset at once: source address not allowed
	NoBackend      atomic.Uint64 `stat:"refused_nobackend"` // reset: every backend failed, or there was none
	Connected      atomic.Uint64 `stat:"connected"`         // sessions that reached a backend
	ConnectFailed  atomic.Uint64 `stat:"connect_failed"`    // single attempts that failed
	ConnectTimeout atomic.Uint64 `stat:"connect_timeout"`   // of these, by timeout
	SelfConnect    atomic.Uint64 `stat:"connect_self"`      // of these, connected to themselves
	LedBack        atomic.Uint64 `stat:"connect_circle"`    // of these, not made: they would have reached dill itself
	ConnectLocal   atomic.Uint64 `stat:"connect_local"`     // attempts this machine could not make
	ClientGone     atomic.Uint64 `stat:"client_gone"`       // clients that reset while dill was connecting
	Ejections      atomic.Uint64 `stat:"ejections"`         // backends left out after failures
	Finished       atomic.Uint64 `stat:"finished"`          // sessions ended by FIN from both sides
	ResetByClient  atomic.Uint64 `stat:"reset_by_client"`   // sessions the client reset
	ResetByBackend atomic.Uint64 `stat:"reset_by_backend"`  // sessions the backend reset
	ResetUndeliver atomic.Uint64 `stat:"reset_undelivered"` // resets passed on although data was not acknowledged
	IdleTimeout    atomic.Uint64 `stat:"idle_timeout"`
	HalfTimeout    atomic.Uint64 `stat:"half_close_timeout"`
	Drained        atomic.Uint64 `stat:"drain_reset"`    // sessions reset at the end of a drain
	Shutdown       atomic.Uint64 `stat:"shutdown_reset"` // sessions reset at the end of a shutdown
	Panics         atomic.Uint64 `stat:"panics"`         // sessions killed by a bug
	AcceptPaused   atomic.Uint64 `stat:"accept_paused"`  // pauses for want of descriptors or memory
	AcceptErrors   atomic.Uint64 `stat:"accept_errors"`  // other errors of accept
	CopiedBytes    atomic.Uint64 `stat:"copied_bytes"`   // received through a buffer
	SplicedBytes   atomic.Uint64 `stat:"spliced_bytes"`  // received through a pipe
	Splices        atomic.Uint64 `stat:"splices"`        // calls that did
	PipeShortage   atomic.Uint64 `stat:"pipe_shortage"`  // times a big stream had to be copied
	NearStreams    atomic.Uint64 `stat:"near_streams"`   // big streams whose send buffer was capped, the peer being near
	NearWidened    atomic.Uint64 `stat:"near_widened"`   // of these, given back to the kernel's tuning
	Batches        atomic.Uint64 `stat:"batches"`        // epoll_wait calls that returned events
	BusyPolls      atomic.Uint64 `stat:"busy_polls"`     // waits that polled before they slept
	Stalls         atomic.Uint64 `stat:"stalls"`         // batches longer than 100 ms
	Tasks          atomic.Uint64 `stat:"tasks"`          // tasks posted to a loop
	TaskDelayMaxUs atomic.Uint64 `stat:"task_delay_max_us"`
}

// Snapshot is the counters of all loops of all engines in this process at one
// moment, in a fixed order, and what the Go runtime spent.
type Snapshot struct {
	Sessions int64 // open now
	Limit    int64 // how many may be, see Engine.ConnectionLimit
	Counters []Counter
	Mallocs  uint64 // heap objects allocated since the start
	GCCycles uint64
}

// Counter is one named value.
type Counter struct {
	Name  string
	Value uint64
}

// Get returns the named counter; 0 for a name that does not exist.
func (s Snapshot) Get(name string) uint64 {
	for _, c := range s.Counters {
		if c.Name == name {
			return c.Value
		}
	}
	return 0
}

// String is one "name value" a line.
func (s Snapshot) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "sessions %d\nsessions_limit %d\n", s.Sessions, s.Limit)
	for _, c := range s.Counters {
		fmt.Fprintf(&b, "%s %d\n", c.Name, c.Value)
	}
	fmt.Fprintf(&b, "mallocs %d\ngc_cycles %d\n", s.Mallocs, s.GCCycles)
	return b.String()
}

// engines are those between New and the end of Shutdown; retired keeps the
// counters of those that ended.
var engines struct {
	sync.Mutex
	running []*Engine
	retired map[string]uint64
}

// Stats returns all counters of this process.
func Stats() Snapshot {
	engines.Lock()
	defer engines.Unlock()
	sum := make(map[string]uint64)
	var s Snapshot
	for _, e := range engines.running {
		s.Sessions += e.sessions.Load()
		s.Limit += e.budget.clients.Load()
		e.addCounters(sum)
	}
	for name, v := range engines.retired {
		merge(sum, name, v)
	}
	for _, name := range counterNames {
		s.Counters = append(s.Counters, Counter{name, sum[name]})
	}
	m := []metrics.Sample{{Name: "/gc/heap/allocs:objects"}, {Name: "/gc/heap/tiny/allocs:objects"}, {Name: "/gc/cycles/total:gc-cycles"}}
	metrics.Read(m)
	s.Mallocs = m[0].Value.Uint64() + m[1].Value.Uint64()
	s.GCCycles = m[2].Value.Uint64()
	return s
}

func (e *Engine) addCounters(sum map[string]uint64) {
	for _, l := range e.loops {
		v := reflect.ValueOf(&l.stats).Elem()
		for i, name := range counterNames {
			merge(sum, name, v.Field(i).Addr().Interface().(*atomic.Uint64).Load())
		}
	}
}

// merge adds n to a counter, or keeps the larger where the counter is one.
func merge(sum map[string]uint64, name string, n uint64) {
	if strings.Contains(name, "_max_") {
		sum[name] = max(sum[name], n)
	} else {
		sum[name] += n
	}
}

func (e *Engine) register() {
	engines.Lock()
	defer engines.Unlock()
	engines.running = append(engines.running, e)
}

func (e *Engine) retire() {
	engines.Lock()
	defer engines.Unlock()
	for i, r := range engines.running {
		if r == e {
			engines.running = append(engines.running[:i], engines.running[i+1:]...)
			break
		}
	}
	if engines.retired == nil {
		engines.retired = make(map[string]uint64)
	}
	e.addCounters(engines.retired)
}

// counterNames are the stat tags of counters, in the order of its fields.
var counterNames = func() []string {
	t := reflect.TypeFor[counters]()
	var names []string
	for field := range t.Fields() {
		if name := field.Tag.Get("stat"); name != "" {
			names = append(names, name)
		}
	}
	return names
}()
