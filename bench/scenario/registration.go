package scenario

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"dill/bench/load"
	"dill/bench/peer"
	"dill/bench/proc"
	"dill/bench/registry"
	"dill/bench/result"
)

// registration is dill's headline figure: from a registration in Consul to a
// port that serves, and from the deregistration to a port that is closed, beside
// n other services with ports of their own. It also tells how soon all of them
// are open after a start, and how many connections to Consul dill holds.
func registration(n int) Scenario {
	return Scenario{
		Name: fmt.Sprintf("register%d", n), Title: fmt.Sprintf("registration to port, with %s in Consul", plural(n, "other tagged service")), Pairs: 3,
		Peers: []string{"dill"},
		Show: []string{result.OpenP50, result.OpenP99, result.OpenWholeP50, result.CloseP50, result.CloseP99, result.CloseWholeP50,
			result.ColdStart, result.ConsulConns},
		Measure: func(ctx context.Context, r *Rig, _ peer.Peer) (*Turn, error) {
			return r.registration(ctx, n)
		},
		Length: func(r *Rig) time.Duration {
			return time.Duration(r.registrations())*(3*apart+40*time.Millisecond) + 3*time.Second
		},
	}
}

// registrations is how many services come and go in a turn.
func (r *Rig) registrations() int {
	if r.Quick {
		return 10
	}
	return 50
}

// apart is the least time between two changes, so that each is a lone one: a
// dill that is told more than 20 times a second collects changes. A random share
// of it is added, so as not to walk in step with any timer.
const apart = 100 * time.Millisecond

// crowd is an agent of the benchmarks' own with services in it, shared by the
// turns.
type crowd struct {
	*registry.Registry
	first uint16 // the port of the first one; one more than the last is free, too
}

// crowdOf returns the agent with n services, which it starts at first.
func (r *Rig) crowdOf(ctx context.Context, n int) (*crowd, error) {
	if c := r.crowds[n]; c != nil {
		return c, nil
	}
	first, err := peer.FreePorts(n + 1)
	if err != nil {
		return nil, err
	}
	reg, err := registry.Start(ctx, r.Dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSkip, err)
	}
	c := &crowd{reg, first}
	if r.crowds == nil {
		r.crowds = make(map[int]*crowd)
	}
	r.crowds[n] = c
	if n == 0 {
		return c, nil
	}
	if err := c.Crowd(ctx, n, first, r.Backends[0]); err != nil {
		return nil, err
	}
	return c, c.Settle(ctx)
}

// dropCrowds ends the agents.
func (r *Rig) dropCrowds() {
	for n, c := range r.crowds {
		_ = c.Close() // an agent of ours: it is killed
		delete(r.crowds, n)
	}
}

func (r *Rig) registration(ctx context.Context, n int) (*Turn, error) {
	c, err := r.crowdOf(ctx, n)
	if err != nil {
		return nil, err
	}
	at, cleanup, err := r.site(1, nil)
	if err != nil {
		return nil, err
	}
	defer cleanup()
	began := time.Now()
	child, _, err := r.Dill.Launch(at, append(c.Env(), r.Dill.Env...))
	if err != nil {
		return nil, err
	}
	defer child.Stop(5 * time.Second)
	values := map[string]float64{}
	if n > 0 {
		if err := allOpen(ctx, child, c.first, n); err != nil {
			return nil, err
		}
		values[result.ColdStart] = time.Since(began).Seconds()
	}

	v := visitor{crowd: c, listen: netip.AddrPortFrom(at.Listen.Addr(), c.first+uint16(n)), backend: r.Backends[0], child: child}
	// The first is not counted: dill may still be reading the others.
	if _, _, err := v.comeAndGo(ctx, "first"); err != nil {
		return nil, err
	}
	t := &Turn{Values: values, Curves: newCurves("open", "close")}
	whole := newCurves("open", "close")
	for i := range r.registrations() {
		opened, closed, err := v.comeAndGo(ctx, "probe-"+strconv.Itoa(i))
		if err != nil {
			return nil, err
		}
		for name, s := range map[string]span{"open": opened, "close": closed} {
			// Nothing that happens before the call returns is late.
			_ = t.Curves[name].RecordValue(max(1, int64(s.afterCall)))
			_ = whole[name].RecordValue(int64(s.whole))
		}
	}
	for name, metrics := range map[string][3]string{
		"open":  {result.OpenP50, result.OpenP99, result.OpenWholeP50},
		"close": {result.CloseP50, result.CloseP99, result.CloseWholeP50},
	} {
		values[metrics[0]] = float64(t.Curves[name].ValueAtQuantile(50)) / 1e6
		values[metrics[1]] = float64(t.Curves[name].ValueAtQuantile(99)) / 1e6
		values[metrics[2]] = float64(whole[name].ValueAtQuantile(50)) / 1e6
	}
	u, err := url.Parse(c.URL)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil {
		return nil, err
	}
	conns, err := proc.ConnectedTo(child.PID(), uint16(port))
	if err != nil {
		return nil, err
	}
	values[result.ConsulConns] = float64(conns)
	return t, nil
}

// visitor registers a service, waits for its port, and takes it back.
type visitor struct {
	*crowd
	listen, backend netip.AddrPort
	child           *proc.Child
}

// span is how long something took after Consul's answer to the call that asked
// for it, and with the call itself.
type span struct{ afterCall, whole time.Duration }

// closingProbe is how long a look at a port that is closing may take. The kernel
// drops a SYN that comes in the very microseconds of the close, and the client
// would send it again after a second.
const closingProbe = 50 * time.Millisecond

func (v *visitor) comeAndGo(ctx context.Context, name string) (opened, closed span, err error) {
	opened, err = v.time(ctx, "the port serves",
		func() error { return v.Register(ctx, name, v.listen.Port(), v.backend) },
		func() bool { return load.Probe(v.listen, time.Second) == nil })
	if err == nil {
		closed, err = v.time(ctx, "the port is closed",
			func() error { return v.Deregister(ctx, name) },
			func() bool { return errors.Is(load.Probe(v.listen, closingProbe), syscall.ECONNREFUSED) })
	}
	if err != nil {
		err = fmt.Errorf("service %s at %s: %w", name, v.listen, err)
	}
	return opened, closed, err
}

// time calls the registry, and then looks every 500 µs whether what the call
// should bring about has come.
func (v *visitor) time(ctx context.Context, what string, call func() error, come func() bool) (span, error) {
	if err := pause(ctx, apart+rand.N(apart)); err != nil {
		return span{}, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 20*time.Second, fmt.Errorf("20 s passed and not: %s", what))
	defer cancel()
	began := time.Now()
	if err := call(); err != nil {
		return span{}, err
	}
	returned := time.Now()
	if err := v.child.Poll(ctx, 500*time.Microsecond, come); err != nil {
		return span{}, err
	}
	now := time.Now()
	return span{now.Sub(returned), now.Sub(began)}, nil
}

// changes is how many requests to Consul a change of one service costs when
// there are n.
func changes(n int) Scenario {
	return Scenario{
		Name: fmt.Sprintf("changes%d", n), Title: fmt.Sprintf("requests to Consul for a change of one of %d services", n), Pairs: 1,
		Peers: []string{"dill"},
		Show:  []string{result.Requests},
		Measure: func(ctx context.Context, r *Rig, _ peer.Peer) (*Turn, error) {
			return r.changes(ctx, n)
		},
		Length: func(*Rig) time.Duration { return 15 * time.Second },
	}
}

// changesCounted is how many changes are averaged, half of them registrations.
const changesCounted = 10

func (r *Rig) changes(ctx context.Context, n int) (*Turn, error) {
	c, err := r.crowdOf(ctx, n)
	if err != nil {
		return nil, err
	}
	counter, err := c.Count()
	if err != nil {
		return nil, err
	}
	defer counter.Close()
	at, cleanup, err := r.site(1, nil)
	if err != nil {
		return nil, err
	}
	defer cleanup()
	child, _, err := r.Dill.Launch(at, append(registry.EnvFor(counter.URL), r.Dill.Env...))
	if err != nil {
		return nil, err
	}
	defer child.Stop(5 * time.Second)
	if err := allOpen(ctx, child, c.first, n); err != nil {
		return nil, err
	}
	quiet, cancel := context.WithTimeoutCause(ctx, 30*time.Second, errors.New("no quiet second in 30 s"))
	defer cancel()
	if err := counter.Quiet(quiet, time.Second); err != nil {
		return nil, err
	}

	// Watches are renewed now and then also when nothing changes.
	const window = 500 * time.Millisecond
	calm := time.Now()
	if err := pause(ctx, 4*window); err != nil {
		return nil, err
	}
	usual := float64(counter.Between(calm, time.Now())) / 4

	began := time.Now()
	for i := range changesCounted {
		name := "change-" + strconv.Itoa(i/2)
		if i%2 == 0 {
			err = c.Register(ctx, name, c.first+uint16(n), r.Backends[0])
		} else {
			err = c.Deregister(ctx, name)
		}
		if err == nil {
			err = pause(ctx, window)
		}
		if err != nil {
			return nil, err
		}
	}
	took := time.Since(began)
	counted := float64(counter.Between(began, time.Now())) - usual*took.Seconds()/window.Seconds()
	return &Turn{Values: map[string]float64{result.Requests: max(0, counted/changesCounted)}}, nil
}
