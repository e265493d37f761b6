package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/url"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"dill/controlplane/compile"
	"dill/controlplane/config"
	"dill/controlplane/endpoint"
	"dill/controlplane/peek"
	"dill/controlplane/publish"
	"dill/controlplane/resolve"
	"dill/controlplane/source"
	"dill/controlplane/source/consul"
	"dill/controlplane/state"
	"dill/dataplane"
)

// process is a running dill. It begins with start and ends with live.
type process struct {
	// Constant after start.
	started   *config.Config // as the settings that need a restart still are
	environ   []string       // that the process was started with
	openFiles uint64         // the limit in force
	logging   logging
	stdout    io.Writer
	signals   chan os.Signal
	engine    *dataplane.Engine
	publisher *publish.Publisher
	resolver  *resolve.Resolver
	host      *host
	peek      *endpoint.Listener // nil = off
	profiles  *endpoint.Listener // nil = off
	read      func(path string) reading

	// What runs beside the data plane, in the order in which it ends: each
	// tells the next one something last.
	deciding stage // sources and publisher
	keeping  stage // state file
	telling  stage // Peek

	// Owned by the goroutine of live.
	config  *config.Config
	runner  *runner
	reading bool // the outcome will come in readings
	again   bool // another reload was asked for meanwhile

	printing atomic.Bool // the counters are on their way out

	readings chan reading // of capacity 1, so that nobody who reads stays behind
}

// stage is a group of goroutines that end together.
type stage struct {
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func (s *stage) begin() { s.ctx, s.cancel = context.WithCancel(context.Background()) }

// end stops the goroutines and waits until they are gone, at most for limit, and
// hardly any longer once hurry is closed. It reports whether they are.
func (s *stage) end(limit time.Duration, hurry <-chan struct{}) bool {
	s.cancel()
	gone := make(chan struct{})
	go func() { s.wg.Wait(); close(gone) }()
	late := time.After(limit)
	for {
		select {
		case <-gone:
			return true
		case <-hurry:
			hurry, late = nil, time.After(lastChance)
		case <-late:
			return false
		}
	}
}

// start starts everything. next holds the sources, which were built from cfg, and
// signals what has been asked for since.
func start(cfg *config.Config, environ []string, next map[string]wanted, logging logging, stdout io.Writer, signals chan os.Signal) (*process, error) {
	p := &process{
		started: cfg, config: cfg, environ: environ, logging: logging, stdout: stdout,
		signals: signals, readings: make(chan reading, 1),
	}
	p.read = p.readSettings
	signal.Notify(p.signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1)
	// A log collector that dies must not take the proxy with it.
	signal.Ignore(syscall.SIGPIPE)
	log := logging.log
	if n := cfg.Runtime.GOMAXPROCS; n > 0 {
		runtime.GOMAXPROCS(n)
	}
	var err error
	if p.openFiles, err = dataplane.RaiseOpenFiles(); err != nil {
		log.Warn("open file limit not raised", keyOpenFiles, p.openFiles, keyErr, err)
	}
	if a := cfg.Peek.Listener; a.IsValid() {
		p.peek = endpoint.New("peek.listener", a, log)
	}
	if a := cfg.Debug.Pprof; a.IsValid() {
		p.profiles = endpoint.New("debug.pprof", a, log)
	}
	if p.engine, err = dataplane.New(planeConfig(cfg, p.openFiles), log); err != nil {
		return nil, p.abandon(fmt.Errorf("start the data plane: %w", err))
	}
	p.run(next)
	attrs := []any{
		keyVersion, version, keyConfig, cfg.Path(), keySources, cfg.Sources(),
		keyOpenFiles, p.openFiles, keyLimit, p.engine.ConnectionLimit(),
	}
	for _, name := range cfg.Sources() {
		attrs = append(attrs, name, cfg.SourceAddress(name))
	}
	if p.peek != nil && p.peek.Bound() {
		attrs = append(attrs, keyPeek, p.peek.Addr())
	}
	log.Info("dill runs", attrs...)
	advise(cfg, p.openFiles, log)
	return p, nil
}

// abandon gives back what a start that failed has taken, and returns err.
func (p *process) abandon(err error) error {
	signal.Stop(p.signals)
	for _, l := range p.own() {
		l.Close()
	}
	return err
}

// run starts the goroutines of the control plane.
func (p *process) run(next map[string]wanted) {
	p.deciding.begin()
	p.keeping.begin()
	p.telling.begin()
	log := p.logging.log

	p.host = newHost(log)
	p.resolver = resolve.New(nil, func() { p.publisher.NamesChanged() }, log)
	p.runner = newRunner(p.deciding.ctx, func(s source.Snapshot) { p.publisher.Sink(s) }, log)
	cfg := publish.Config{Plane: p.engine, Names: p.resolver, Settings: p.settings(p.config, next)}
	var kept *state.File
	if path := p.config.State.Path; path != "" {
		kept = state.New(path, log)
		restored, err := within(restoreLimit, kept.Load)
		if err != nil {
			log.Error("last good table not restored", keyPath, path, keyErr, err)
		}
		cfg.Restored, cfg.Save = restored, kept.Save
		p.keeping.wg.Go(func() { kept.Run(p.keeping.ctx) })
	}
	p.publisher = publish.New(cfg, log)
	p.deciding.wg.Go(func() { p.publisher.Run(p.deciding.ctx) })
	p.deciding.wg.Go(func() { p.host.watch(p.deciding.ctx, p.publisher.AddressesChanged) })
	if p.peek != nil {
		server := peek.New(p.peek, log)
		if kept != nil {
			server.Keeper = kept
		}
		p.telling.wg.Go(func() { server.Serve(p.telling.ctx, p.publisher, p.engine) })
	}
	if p.profiles != nil {
		p.telling.wg.Go(func() { serveProfiles(p.telling.ctx, p.profiles) })
	}
	p.runner.known = p.publisher.Known
	p.runner.run(next)
}

// restoreLimit is how long the start waits for the state file, which may lie on a
// file system that hangs. Signals wait as long.
const restoreLimit = 3 * time.Second

// within returns what load does, or an error when that takes longer than limit.
func within[T any](limit time.Duration, load func() (T, error)) (T, error) {
	type outcome struct {
		value T
		err   error
	}
	done := make(chan outcome, 1)
	go func() {
		v, err := load()
		done <- outcome{v, err}
	}()
	select {
	case o := <-done:
		return o.value, o.err
	case <-time.After(limit):
		var none T
		return none, fmt.Errorf("no answer within %v", limit)
	}
}

// settings is what the publisher needs to know of a configuration.
func (p *process) settings(c *config.Config, next map[string]wanted) publish.Settings {
	s := publish.Settings{
		Compile:      compileOptions(c),
		Sources:      p.runner.origins(next),
		Settle:       c.Consul.Settle,
		Linger:       c.Listeners.Linger,
		RemovalShare: c.Listeners.RemovalShare,
	}
	if o, ok := s.Sources[consul.Name]; ok {
		o.MaxStale = c.Consul.MaxStale
		s.Sources[consul.Name] = o
	}
	s.Compile.Local = p.host.local
	s.Compile.MaxListeners = listenerLimit(c.Listeners.Max, p.openFiles, p.engine.Loops())
	// Those in force: c may name others, which need a restart.
	for _, l := range p.own() {
		s.Compile.Reserved = append(s.Compile.Reserved, l.Reserved()...)
	}
	return s
}

// listenerLimit is how many listeners there may be, 0 for any number. Each takes
// a descriptor of every loop; half of them are for connections.
func listenerLimit(limit int, openFiles uint64, loops int) int {
	if limit != config.Auto {
		return limit
	}
	files := min(openFiles, math.MaxInt32)
	return max(1, int(files-dataplane.Reserve(files))/2/loops)
}

// compileOptions is what a configuration says to the compiler, but for what
// depends on the process.
func compileOptions(c *config.Config) compile.Options {
	return compile.Options{
		Allowed:       c.Listeners.Allowed,
		PortMin:       c.Listeners.PortMin,
		PortMax:       c.Listeners.PortMax,
		MaxPerService: c.Listeners.MaxPerService,
		AllowWarning:  c.Consul.AllowWarning,
		Upstreams:     upstreams(c),
	}
}

// upstreams are where the sources are asked over TCP.
func upstreams(c *config.Config) (all []compile.Upstream) {
	add := func(on bool, setting, address string) {
		u, err := url.Parse(address)
		if !on || err != nil || u.Scheme == "unix" {
			return
		}
		port, err := strconv.Atoi(u.Port())
		if err != nil {
			port = map[string]int{"http": 80, "https": 443}[u.Scheme]
		}
		all = append(all, compile.Upstream{Setting: setting, Host: u.Hostname(), Port: port})
	}
	add(c.Consul.Enabled, "consul.address", c.Consul.Address)
	add(c.Nomad.Enabled, "nomad.address", c.Nomad.Address)
	add(c.HTTP.Endpoint != "", "http.endpoint", c.HTTP.Endpoint)
	return all
}

// own lists the addresses that dill itself listens on or waits for.
func (p *process) own() []*endpoint.Listener {
	return slices.DeleteFunc([]*endpoint.Listener{p.peek, p.profiles}, func(l *endpoint.Listener) bool { return l == nil })
}

// planeConfig translates settings, where 0 is off, for the data plane, where 0
// is the default and negative is off.
func planeConfig(c *config.Config, openFiles uint64) dataplane.Config {
	d := c.Dataplane
	splice := dataplane.SpliceAuto
	if !d.Splice {
		splice = dataplane.SpliceNever
	}
	return dataplane.Config{
		Loops:               d.Loops,
		ConnectTimeout:      d.ConnectTimeout,
		ConnectTotalTimeout: d.ConnectTotalTimeout,
		ConnectTries:        d.ConnectTries,
		EjectAfter:          zeroIsOff(d.EjectFailures),
		HalfCloseTimeout:    zeroIsOff(d.HalfCloseTimeout),
		IdleTimeout:         zeroIsOff(d.IdleTimeout),
		DrainTimeout:        zeroIsOff(c.Listeners.DrainTimeout),
		KeepAlive:           zeroIsOff(d.KeepAlive),
		UserTimeout:         zeroIsOff(d.UserTimeout),
		OpenFiles:           openFiles - beyondReserve(c, openFiles),
		MaxConnections:      maxConnections(d.MaxConnections),
		Backlog:             d.Backlog,
		Splice:              splice,
		PipeSize:            d.PipeSize,
		NearBuffer:          zeroIsOff(d.NearBuffer),
		NearRTT:             zeroIsOff(d.NearRTT),
		BusyPoll:            zeroIsOff(d.BusyPoll),
	}
}

// The control plane's descriptors but for those of connections to Consul.
const (
	ownFiles  = 12 // standard streams, Go's poller, listeners, what is watched
	peekFiles = 64 // Peek's clients and other sources, a quarter where there are few

	// leastFiles is what it needs to work at all: its own, the least connections
	// to Consul, a few of Peek's.
	leastFiles = 24
)

// beyondReserve is how many descriptors the control plane may need that the data
// plane's reserve for it does not have: those of more connections to Consul than
// the default, or of any where the reserve is tiny.
func beyondReserve(c *config.Config, openFiles uint64) uint64 {
	if !c.Consul.Enabled {
		return 0
	}
	more := max(0, c.Consul.MaxConnections-consul.DefaultMaxConnections, leastFiles-int(dataplane.Reserve(openFiles)))
	return min(uint64(more), openFiles/4)
}

// consulFiles is how many descriptors are left for connections to Consul of what
// the data plane does not use. Beyond them they would be clients' or Peek's.
func consulFiles(c *config.Config, openFiles uint64) int {
	beyond := beyondReserve(c, openFiles)
	kept := int(beyond + dataplane.Reserve(openFiles-beyond))
	return max(1, kept-ownFiles-min(peekFiles, kept/4))
}

func maxConnections(n int) int {
	if n == config.AutoConnections {
		return 0 // the data plane's default
	}
	return zeroIsOff(n)
}

func zeroIsOff[T int | time.Duration](v T) T {
	if v == 0 {
		return -1
	}
	return v
}
