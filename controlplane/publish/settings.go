package publish

import (
	"context"
	"net/netip"
	"time"

	"dill/controlplane/compile"
	"dill/controlplane/source"
	"dill/controlplane/state"
	"dill/dataplane/route"
)

const (
	// DefaultSettle, DefaultLinger and DefaultRemovalShare are what the
	// configuration's consul.settle, listeners.linger and
	// listeners.removal_share say when they are not set.
	DefaultSettle       = 30 * time.Second
	DefaultLinger       = 30 * time.Second
	DefaultRemovalShare = 0.5

	// guardFloor is the number of open listeners below which the guard is
	// off: of three ports, two may well go together.
	guardFloor = 4

	// spacing is the least time between two publications, 20 a second.
	spacing = 50 * time.Millisecond

	// confirmTimeout bounds one Confirm. One that did not settle the matter
	// is repeated after confirmRetry, doubling up to confirmMax.
	confirmTimeout = 10 * time.Second
	confirmRetry   = time.Second
	confirmMax     = 30 * time.Second

	// lookEvery is how often the Publisher looks what the plane has bound. It
	// looks before each evaluation, too, of which there is one soon after new
	// listeners were published.
	lookEvery = time.Second
)

// Plane is what takes a published table: dataplane.Engine. Neither method may
// block for long.
type Plane interface {
	Publish(t *route.Table)

	// Listening tells of every listener in the newest table whether it is open:
	// nil, or why it is not yet: route.ErrInUse if another program listens there.
	Listening() map[netip.AddrPort]error
}

// Confirmer reads everything a source knows once more, consistently. The
// Snapshot counts only if it is Synced and without Err.
type Confirmer interface {
	Confirm(ctx context.Context) (source.Snapshot, error)
}

// Names resolves host names without ever waiting: resolve.Resolver.
type Names interface {
	Lookup(host string) ([]netip.Addr, error)
	Sweep() // called after each compilation: what it did not ask for is unused
}

// Settings are what the configuration says. They may change at any time; the
// maps and slices in them must not be modified after they were handed over.
type Settings struct {
	Compile compile.Options

	// Sources are the configured ones by name. A snapshot of any other source
	// is ignored, and one that is no longer named here takes its routes with it.
	Sources map[string]Origin

	Settle       time.Duration // how long removals wait in doubtful times
	Linger       time.Duration // how long an unserved listener stays
	RemovalShare float64       // 0..1: losing more than this at once is confirmed first; 1 = guard off
}

// Origin is what there is to know of a Source besides what it says.
type Origin struct {
	Confirmer Confirmer // another one is another Source; nil = cannot confirm

	// Scope names what part of its world the Source looks at: datacenter,
	// namespace, partition. What is known of one scope says nothing about the
	// same names in another.
	Scope string

	// MaxStale is how long what cannot be read any more is served as it last
	// was, 0 = for ever.
	MaxStale time.Duration
}

// Config is what a Publisher is built from and keeps.
type Config struct {
	Plane    Plane
	Names    Names
	Settings Settings
	Restored state.State       // from the state file, zero = none
	Save     func(state.State) // takes what is worth keeping, nil = nobody; must not block
}
