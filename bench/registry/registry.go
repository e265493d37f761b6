// Package registry is the benchmarks' side of service discovery: it has
// services registered in a real Consul with dill's tags, so that what is measured
// went the whole way from a registration to a relay, and takes them back.
package registry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"

	"dill/bench/peer"
	"dill/controlplane/consultest"
)

// Registry is a Consul that the benchmarks may register services with. All
// names begin with "dill-bench-<pid>-", and all listeners are asked for under
// a label that no other dill knows.
type Registry struct {
	URL string

	client *api.Client
	own    *consultest.Agent // nil: it is the user's
	prefix string
	node   string // of crowds; "" = none
}

// AddrVar names the variable with the address of the user's Consul, and
// PermitVar the one that permits one that is not on this machine.
const (
	AddrVar   = "CONSUL_HTTP_ADDR"
	PermitVar = "BENCH_CONSUL"
)

// Open returns the Consul that $CONSUL_HTTP_ADDR names, or starts an agent of
// its own, with its files in dir. Close it.
func Open(ctx context.Context, dir string) (*Registry, error) {
	addr := os.Getenv(AddrVar)
	if addr == "" {
		return Start(ctx, dir)
	}
	if !onLoopback(addr) && os.Getenv(PermitVar) != "yes" {
		return nil, fmt.Errorf("$%s is %s, which is not on this machine: the benchmarks would register services there; %s=yes permits it",
			AddrVar, addr, PermitVar)
	}
	conf := api.DefaultConfig()
	client, err := api.NewClient(conf)
	if err != nil {
		return nil, err
	}
	if _, err := client.Status().LeaderWithQueryOptions((&api.QueryOptions{}).WithContext(ctx)); err != nil {
		return nil, fmt.Errorf("consul at $%s: %w", AddrVar, err)
	}
	if !strings.Contains(addr, "://") {
		addr = conf.Scheme + "://" + addr
	}
	return &Registry{URL: addr, client: client, prefix: prefix()}, nil
}

// Start starts a Consul agent of the benchmarks' own.
func Start(ctx context.Context, dir string) (*Registry, error) {
	dir, err := os.MkdirTemp(dir, "consul-")
	if err != nil {
		return nil, err
	}
	agent, err := consultest.Start(ctx, consultest.Options{Dir: dir})
	if err != nil {
		return nil, err
	}
	return &Registry{URL: agent.Addr(), client: agent.Client(), own: agent, prefix: prefix()}, nil
}

func prefix() string { return fmt.Sprintf("dill-bench-%d-", os.Getpid()) }

// onLoopback tells whether a Consul address, with or without a scheme, is on
// this machine.
func onLoopback(addr string) bool {
	host := addr
	if u, err := url.Parse(addr); err == nil && u.Host != "" {
		host = u.Host
	} else if strings.HasPrefix(addr, "unix:") {
		return true
	}
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// Own reports whether the agent is the benchmarks' own.
func (r *Registry) Own() bool { return r.own != nil }

// Version is what the agent says it is.
func (r *Registry) Version() string {
	self, err := r.client.Agent().Self()
	if err != nil {
		return "Consul"
	}
	version, _ := self["Config"]["Version"].(string)
	return "Consul " + version
}

// Close takes back every service that was registered, and ends the agent if it
// is the benchmarks' own.
func (r *Registry) Close() error {
	if r.own != nil {
		r.own.Close()
		return nil
	}
	services, err := r.client.Agent().Services()
	if err != nil {
		return fmt.Errorf("take back services: %w", err)
	}
	var errs []error
	for id := range services {
		if strings.HasPrefix(id, r.prefix) {
			errs = append(errs, r.client.Agent().ServiceDeregister(id))
		}
	}
	return errors.Join(errs...)
}

// Env are the settings by which a dill finds this Consul, and serves the
// benchmarks' services only.
func (r *Registry) Env() []string { return EnvFor(r.URL) }

// EnvFor is Env for a Consul at another address.
func EnvFor(url string) []string {
	env := []string{
		"DILL_CONSUL_ADDRESS=" + url,
		"DILL_LISTENERS_ALLOWED=" + peer.Label + "=127.0.0.1",
		"DILL_LOG_LEVEL=warn",
	}
	if token := os.Getenv("CONSUL_HTTP_TOKEN"); token != "" {
		env = append(env, "DILL_CONSUL_TOKEN="+token)
	}
	return env
}

// Announce is peer.Dill's: it registers one service with an instance for each
// backend that asks for listen.
func (r *Registry) Announce(ctx context.Context, listen netip.AddrPort, backends []netip.AddrPort) (env []string, undo func(), err error) {
	undo = func() {
		for i := range backends {
			// At the end of the run Close looks again.
			_ = r.client.Agent().ServiceDeregister(r.id("traffic", i))
		}
	}
	for i, b := range backends {
		if err := r.register(ctx, r.id("traffic", i), r.prefix+"traffic", listen.Port(), b); err != nil {
			undo()
			return nil, nil, err
		}
	}
	return r.Env(), undo, nil
}

func (r *Registry) id(name string, i int) string { return fmt.Sprintf("%s%s-%d", r.prefix, name, i) }

// Register registers a service of its own that asks for port and leads to
// backend. It returns when Consul has answered.
func (r *Registry) Register(ctx context.Context, name string, port uint16, backend netip.AddrPort) error {
	return r.register(ctx, r.prefix+name, r.prefix+name, port, backend)
}

// Deregister takes back what Register did.
func (r *Registry) Deregister(ctx context.Context, name string) error {
	err := r.client.Agent().ServiceDeregisterOpts(r.prefix+name, (&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return fmt.Errorf("deregister %s: %w", name, err)
	}
	return nil
}

func (r *Registry) register(ctx context.Context, id, name string, port uint16, backend netip.AddrPort) error {
	err := r.client.Agent().ServiceRegisterOpts(&api.AgentServiceRegistration{
		ID: id, Name: name, Tags: tags(port),
		Address: backend.Addr().String(), Port: int(backend.Port()),
		Check: &api.AgentServiceCheck{Name: "alive", TTL: "1h", Status: api.HealthPassing},
	}, api.ServiceRegisterOpts{}.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("register %s: %w", id, err)
	}
	return nil
}

func tags(port uint16) []string {
	return []string{"dill", fmt.Sprintf("dill.listener=%s:%d", peer.Label, port)}
}

// txnMost is after how many operations a transaction is sent; Consul takes 128.
const txnMost = 100

// Crowd registers n services, each with a check that passes, that ask for the ports from first on, on a node
// of their own, many at a time. It is for own agents only.
func (r *Registry) Crowd(ctx context.Context, n int, first uint16, backend netip.AddrPort) error {
	r.node = r.prefix + "node"
	ops := api.TxnOps{{Node: &api.NodeTxnOp{Verb: api.NodeSet, Node: api.Node{Node: r.node, Address: "127.0.0.1"}}}}
	for i := range n {
		ops = append(ops, &api.TxnOp{Service: &api.ServiceTxnOp{
			Verb: api.ServiceSet, Node: r.node,
			Service: api.AgentService{
				ID: r.id("crowd", i), Service: r.id("crowd", i), Tags: tags(first + uint16(i)),
				Address: backend.Addr().String(), Port: int(backend.Port()),
			},
		}}, &api.TxnOp{Check: &api.CheckTxnOp{
			Verb: api.CheckSet,
			Check: api.HealthCheck{
				Node: r.node, CheckID: "alive:" + r.id("crowd", i), Name: "alive", Status: api.HealthPassing,
				ServiceID: r.id("crowd", i), ServiceName: r.id("crowd", i),
			},
		}})
		if len(ops) >= txnMost || i == n-1 {
			if err := r.commit(ctx, ops); err != nil {
				return err
			}
			ops = ops[:0]
		}
	}
	return nil
}

func (r *Registry) commit(ctx context.Context, ops api.TxnOps) error {
	ok, answer, _, err := r.client.Txn().Txn(ops, (&api.QueryOptions{}).WithContext(ctx))
	if err == nil && !ok {
		err = fmt.Errorf("%s", answer.Errors[0].What)
	}
	if err != nil {
		return fmt.Errorf("register a crowd: %w", err)
	}
	return nil
}

// Join registers a second instance, with a check that passes, of a crowd's i-th service, which asks for
// port. Leave takes it back.
func (r *Registry) Join(ctx context.Context, i int, port uint16, backend netip.AddrPort) error {
	_, err := r.client.Catalog().Register(&api.CatalogRegistration{
		Node: r.node, Address: "127.0.0.1", SkipNodeUpdate: true,
		Service: &api.AgentService{
			ID: r.id("second", i), Service: r.id("crowd", i), Tags: tags(port),
			Address: backend.Addr().String(), Port: int(backend.Port()),
		},
		Check: &api.AgentCheck{
			Node: r.node, CheckID: "alive:" + r.id("second", i), Name: "alive", Status: api.HealthPassing,
			ServiceID: r.id("second", i), ServiceName: r.id("crowd", i),
		},
	}, (&api.WriteOptions{}).WithContext(ctx))
	if err != nil {
		return fmt.Errorf("register a second instance: %w", err)
	}
	return nil
}

// Leave takes back what Join did.
func (r *Registry) Leave(ctx context.Context, i int) error {
	_, err := r.client.Catalog().Deregister(&api.CatalogDeregistration{Node: r.node, ServiceID: r.id("second", i)},
		(&api.WriteOptions{}).WithContext(ctx))
	if err != nil {
		return fmt.Errorf("deregister a second instance: %w", err)
	}
	return nil
}

// Settle waits until nothing has been registered for a moment, as seen by
// Consul's index.
func (r *Registry) Settle(ctx context.Context) error {
	_, meta, err := r.client.Catalog().Services((&api.QueryOptions{}).WithContext(ctx))
	for err == nil {
		last := meta.LastIndex
		_, meta, err = r.client.Catalog().Services((&api.QueryOptions{WaitIndex: last, WaitTime: 300 * time.Millisecond}).WithContext(ctx))
		if err == nil && meta.LastIndex == last {
			return nil
		}
	}
	return err
}
