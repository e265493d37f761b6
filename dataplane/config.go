package dataplane

import (
	"runtime"
	"time"

	"dill/dataplane/internal/sys"
	"dill/dataplane/route"
)

// Config is what New needs; a zero value means the default named beside it.
// A negative duration or count switches the thing off, where it can be: connect
// timeouts, tries and loops must not be negative.
type Config struct {
	Loops int // event loops; GOMAXPROCS

	ConnectTimeout      time.Duration // one attempt at one backend; 5 s
	ConnectTotalTimeout time.Duration // all attempts for one client; 15 s
	ConnectTries        int           // attempts for one client; 3, at most 16
	EjectAfter          int           // connect failures in a row that eject a backend; 3

	HalfCloseTimeout time.Duration // one side finished, no byte moved; 5 min
	IdleTimeout      time.Duration // no byte moved; off
	DrainTimeout     time.Duration // sessions of a listener that closed; 30 s

	KeepAlive   time.Duration // TCP keepalive idle time on both legs; 30 s
	UserTimeout time.Duration // TCP_USER_TIMEOUT on both legs; the kernel's own

	// OpenFiles is the process's limit of open files, which Budget divides; what
	// it allows holds beside MaxConnections. 0 = not known, nothing is divided.
	OpenFiles uint64

	// MaxConnections is how many clients are served at once, more are reset; as
	// many as OpenFiles allow. Switched off, those that OpenFiles do not allow
	// wait in the kernel's queue instead.
	MaxConnections int

	Backlog int // accept queue of a listener; net.core.somaxconn

	Splice   SpliceMode // SpliceAuto
	PipeSize int        // bytes asked for a splice pipe, at least 64 KiB; 1 MiB

	NearBuffer int           // send buffer of a big stream to a near peer, bytes; 128 KiB
	NearRTT    time.Duration // round trip up to which a peer on another host is near; off

	BusyPoll time.Duration // a loop polls so long before it sleeps, see loop.wait; 100 µs
}

// turnsAway reports whether clients are reset when descriptors are out, and do
// not wait for some.
func (c *Config) turnsAway() bool { return c.OpenFiles > 0 && c.MaxConnections >= 0 }

// SpliceMode says when bytes move through a pipe instead of a buffer.
type SpliceMode uint8

const (
	SpliceAuto   SpliceMode = iota // once a stream has shown that it is big
	SpliceNever                    // always copy
	SpliceAlways                   // from the first byte; for tests
)

// Defaults that are not the kernel's or the machine's.
const (
	defaultConnectTimeout      = 5 * time.Second
	defaultConnectTotalTimeout = 15 * time.Second
	defaultConnectTries        = 3
	defaultEjectAfter          = 3
	defaultHalfCloseTimeout    = 5 * time.Minute
	defaultDrainTimeout        = 30 * time.Second
	defaultKeepAlive           = 30 * time.Second
	defaultBusyPoll            = 100 * time.Microsecond // between net.core.busy_poll's suggestion and KVM's halt_poll_ns
	defaultNearBuffer          = 128 << 10              // the window that near streams were measured with
	defaultPipeSize            = 1 << 20                // fs.pipe-max-size, the most an unprivileged user may ask for
)

func (c Config) withDefaults() Config {
	set(&c.Loops, runtime.GOMAXPROCS(0))
	set(&c.ConnectTimeout, defaultConnectTimeout)
	set(&c.ConnectTotalTimeout, defaultConnectTotalTimeout)
	set(&c.ConnectTries, defaultConnectTries)
	set(&c.EjectAfter, defaultEjectAfter)
	set(&c.HalfCloseTimeout, defaultHalfCloseTimeout)
	set(&c.IdleTimeout, 0)
	set(&c.DrainTimeout, defaultDrainTimeout)
	set(&c.KeepAlive, defaultKeepAlive)
	set(&c.UserTimeout, 0)
	set(&c.Backlog, 0)
	set(&c.PipeSize, defaultPipeSize)
	set(&c.NearBuffer, defaultNearBuffer)
	set(&c.NearRTT, 0)
	set(&c.BusyPoll, defaultBusyPoll)
	if most := sys.SendBufferMost(); most > 0 {
		c.NearBuffer = min(c.NearBuffer, most) // a cap is never more than what it caps
	}
	if c.PipeSize > 0 {
		c.PipeSize = max(c.PipeSize, pipeMin)
	}
	c.ConnectTries = max(1, min(c.ConnectTries, route.MaxTries))
	c.Loops = max(1, c.Loops)
	return c
}

// set replaces zero by the default and off (negative) by zero.
func set[T int | time.Duration](v *T, def T) {
	switch {
	case *v == 0:
		*v = def
	case *v < 0:
		*v = 0
	}
}
