package nomad

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"dill/controlplane/source"
)

const name = "nomad"

// maxWatches is how many services have a blocking query of their own; the
// list has one, too.
const maxWatches = maxConns - reserve - 1

// maxWait is how long Nomad makes a blocking query wait at most.
const maxWait = 5 * time.Minute

// Options is where Nomad is and how to ask it.
type Options struct {
	Address   string // http or https URL; its path is a prefix, before /v1
	Token     string // "" = anonymous
	Namespace string // "" = default, "*" = all
	Wait      time.Duration
	Stale     bool // any server may answer

	CA, Cert, Key string // PEM files; "" = the system's CAs, no client certificate
	Insecure      bool   // do not verify the server
}

// Source watches one Nomad.
type Source struct {
	client    *client
	namespace string
	qualified bool // names carry their namespace
	subject   string
	slots     chan struct{} // one token per blocking query of a service
	readers   chan struct{} // one token per query beside them
	log       *slog.Logger
}

// New returns a source for the Nomad that o describes. It reads the TLS files
// but connects to nothing.
func New(o Options, log *slog.Logger) (*Source, error) {
	if o.Wait <= 0 {
		return nil, errors.New("nomad wait: want more than 0")
	}
	if o.Wait > maxWait {
		log.Info("nomad waits no longer than it allows", "wait", o.Wait, "most", maxWait)
		o.Wait = maxWait
	}
	if o.Namespace == "" {
		o.Namespace = "default"
	}
	c, err := newClient(o)
	if err != nil {
		return nil, err
	}
	address := c.base.Scheme + "://" + c.base.Host
	return &Source{
		client:    c,
		namespace: o.Namespace,
		qualified: o.Namespace == allNamespaces,
		subject:   "nomad at " + address,
		slots:     make(chan struct{}, maxWatches),
		readers:   make(chan struct{}, reserve/2),
		log:       log.With("source", name, "address", address),
	}, nil
}

// Name implements source.Source.
func (s *Source) Name() string { return name }

// Run implements source.Source. A Source is run once.
func (s *Source) Run(ctx context.Context, sink source.Sink) error {
	ctx, cancel := context.WithCancel(ctx)
	var loops sync.WaitGroup
	defer func() {
		cancel()
		loops.Wait()
		s.client.close()
	}()
	reports := make(chan report)
	tell := func(r report) {
		select {
		case reports <- r:
		case <-ctx.Done():
		}
	}
	cat := newCatalog(s.subject, s.qualified, s.log)
	cat.start = func(w *watched) {
		own, stop := context.WithCancel(ctx)
		w.stop = stop
		loops.Go(func() { s.watchService(own, w, tell) })
	}
	loops.Go(func() { s.watchList(ctx, tell) })

	calm := time.NewTicker(suspectFor / 4)
	defer calm.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case r := <-reports:
			cat.take(r)
		case <-calm.C:
		}
		if snapshot, news := cat.snapshot(); news {
			sink(snapshot)
		}
	}
}

func (s *Source) watchList(ctx context.Context, tell func(report)) {
	next := func(ctx context.Context) (block, goOn bool) { return true, ctx.Err() == nil }
	q := query{path: []string{"services"}, namespace: s.namespace}
	watch(ctx, s.client, q, next, func(list []listing, why doubt, err error) {
		if err == nil {
			s.client.markUp()
		}
		tell(report{listing: list, doubt: why, err: err})
	})
}

// watchService reads one service: by a blocking query if there is a slot for
// it, and else when the list has changed.
func (s *Source) watchService(ctx context.Context, w *watched, tell func(report)) {
	slot := false
	reading := false // holds a token of s.readers
	done := func() {
		if reading {
			<-s.readers
			reading = false
		}
	}
	defer func() {
		done()
		if slot {
			<-s.slots
		}
	}()
	first := true
	next := func(ctx context.Context) (block, goOn bool) {
		done()
		s.client.ready(ctx)
		if !slot {
			select {
			case s.slots <- struct{}{}:
				slot = true
			default:
			}
		}
		if slot {
			return true, ctx.Err() == nil
		}
		if !first {
			select {
			case <-w.poke:
			case <-ctx.Done():
				return false, false
			}
		}
		first = false
		select {
		case s.readers <- struct{}{}:
			reading = true
		case <-ctx.Done():
		}
		return false, ctx.Err() == nil
	}
	watch(ctx, s.client, s.serviceQuery(w.key), next, func(list []registration, why doubt, err error) {
		done()
		if err != nil {
			w.again() // a service that is only read on change must not wait for one
			if answered(err) {
				tell(report{of: w, err: err})
			} // else it is the server's connections that broke, and the list's loop tells
			return
		}
		tell(report{of: w, service: serviceOf(w.key, list, s.qualified), doubt: why})
		if !slot {
			pause(ctx, followEvery)
		}
	})
}

func (s *Source) serviceQuery(k key) query {
	return query{path: []string{"service", k.name}, namespace: k.namespace, ofOne: true}
}

// Confirm reads everything once more, from the leader. The control plane asks
// before it believes that many services are gone at once. A service that cannot
// be read is stale, and proves nothing of the others. It may be called from any
// goroutine.
func (s *Source) Confirm(ctx context.Context) (source.Snapshot, error) {
	var list []listing
	if _, err := get(ctx, s.client, query{path: []string{"services"}, namespace: s.namespace, leader: true}, &list); err != nil {
		return source.Snapshot{}, fmt.Errorf("%s: %w", s.subject, err)
	}
	all := source.Snapshot{Source: name, Synced: true}
	var (
		mu     sync.Mutex
		reads  sync.WaitGroup
		failed error // of a connection, not of one service
	)
	for k := range wanted(list) {
		reads.Go(func() {
			service, err := s.readNow(ctx, k)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case answered(err):
				all.Stale = append(all.Stale, source.Stale{Service: k.text(s.qualified), Err: err})
			case err != nil:
				failed = fmt.Errorf("%s: service %s: %w", s.subject, quoted(k.name), err)
			case len(service.Instances) > 0:
				all.Services = append(all.Services, service)
			}
		})
	}
	reads.Wait()
	if failed != nil {
		return source.Snapshot{}, failed
	}
	sortServices(all.Services)
	sortStale(all.Stale)
	return all, nil
}

// readNow reads one service from the leader, in turn with other such reads.
func (s *Source) readNow(ctx context.Context, k key) (source.Service, error) {
	select {
	case s.readers <- struct{}{}:
		defer func() { <-s.readers }()
	case <-ctx.Done():
		return source.Service{}, ctx.Err()
	}
	q := s.serviceQuery(k)
	q.leader = true
	short, cancel := context.WithTimeout(ctx, s.client.prompt/4) // the others are to be asked, too
	defer cancel()
	var list []registration
	if _, err := get(short, s.client, q, &list); err != nil {
		if short.Err() != nil && s.client.alive(ctx) {
			err = aloneError{errors.New("no answer in time")}
		}
		return source.Service{}, err
	}
	return serviceOf(k, list, s.qualified), nil
}
