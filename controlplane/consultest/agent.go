package consultest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/consul/api"
)

const (
	logName = "consul.log"

	// patience is how long an agent may take to have a leader, on a machine
	// that is busy with other tests.
	patience = 90 * time.Second

	// maxStarts is how often an agent is started whose ports are taken.
	maxStarts = 5
)

// Agent is a running Consul agent, a server. Its methods may be called from any
// goroutine, but those that end, stop or start it only from one at a time.
type Agent struct {
	// Token allows everything; "" without ACLs.
	Token string

	// CA, Cert and Key are PEM files for a client; "" without TLS.
	CA, Cert, Key string

	addr      string
	dir       string
	binary    string
	args      []string
	ports     *ports
	servers   int // in the cluster
	proc      *process
	client    *api.Client
	transport *http.Transport
}

// Start starts an agent and waits until it takes registrations. ctx bounds the
// start only. The caller must Close the agent.
func Start(ctx context.Context, o Options) (*Agent, error) {
	for try := 1; ; try++ {
		a, err := startOnce(ctx, o)
		// A program that does not use this package may take a port between its
		// choice and its use.
		if err == nil || try == maxStarts || !strings.Contains(err.Error(), "address already in use") {
			return a, err
		}
	}
}

func startOnce(ctx context.Context, o Options) (*Agent, error) {
	p, err := reservePorts()
	if err != nil {
		return nil, err
	}
	a, err := prepare(o, node{name: "node-1", ports: p, servers: 1})
	if err != nil {
		p.release()
		return nil, err
	}
	if err := a.Restart(ctx); err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

// prepare makes an Agent that is not running. It owns n.ports if there is no
// error.
func prepare(o Options, n node) (*Agent, error) {
	binary, err := Binary()
	if err != nil {
		return nil, err
	}
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return nil, err
	}
	a := &Agent{dir: o.Dir, binary: binary, ports: n.ports, servers: n.servers}
	scheme := "http"
	var certs *certificates
	if o.TLS != Plain {
		scheme = "https"
		if certs, err = makeCertificates(o.Dir); err != nil {
			return nil, err
		}
		a.CA, a.Cert, a.Key = certs.CA, certs.Cert, certs.Key
	}
	if o.ACL {
		a.Token = token
	}
	a.addr = fmt.Sprintf("%s://127.0.0.1:%d", scheme, n.ports.api)
	if a.args, err = o.write(n, certs); err != nil {
		return nil, err
	}
	conf, err := certs.config()
	if err != nil {
		return nil, err
	}
	a.transport = &http.Transport{TLSClientConfig: conf, MaxIdleConnsPerHost: 4}
	a.client, err = api.NewClient(&api.Config{
		Address:    a.addr,
		Token:      a.Token,
		HttpClient: &http.Client{Transport: a.transport, Timeout: time.Minute},
	})
	return a, err
}

// Addr is the URL of the HTTP API.
func (a *Agent) Addr() string { return a.addr }

// Client talks to the agent with all rights.
func (a *Agent) Client() *api.Client { return a.client }

// PID is the process ID of the present run.
func (a *Agent) PID() int { return a.proc.pid }

// Kill ends the agent at once, as a crash would. Restart brings it back.
func (a *Agent) Kill() {
	if a.proc != nil {
		a.proc.kill()
	}
	a.transport.CloseIdleConnections()
}

// Terminate asks the agent to end and waits until it has, as an operator's
// restart does. Restart brings it back.
func (a *Agent) Terminate() error {
	if err := a.proc.signal(syscall.SIGTERM); err != nil {
		return err
	}
	<-a.proc.exited
	a.transport.CloseIdleConnections()
	return nil
}

// Stop makes the agent silent: its connections stay, and nothing answers until
// Cont.
func (a *Agent) Stop() error { return a.proc.stop() }

// Cont ends what Stop began.
func (a *Agent) Cont() error { return a.proc.signal(syscall.SIGCONT) }

// Restart starts the agent again, after killing it if it runs, on the same
// ports, and waits until it takes registrations and has its data again, if it
// keeps any.
func (a *Agent) Restart(ctx context.Context) error {
	if err := a.launch(); err != nil {
		return err
	}
	return a.await(ctx)
}

// launch is Restart without waiting.
func (a *Agent) launch() error {
	a.Kill()
	p, err := spawn(a.binary, a.args, a.dir)
	if err != nil {
		return err
	}
	a.proc = p
	return nil
}

// Close ends the agent for good and gives its ports back. It leaves the
// directory alone.
func (a *Agent) Close() {
	a.Kill()
	a.ports.release()
}

// await waits until every server of the cluster is in the catalog, which is
// after the election and after ACLs work.
func (a *Agent) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	pause := time.NewTicker(20 * time.Millisecond)
	defer pause.Stop()
	for {
		ask, stop := context.WithTimeout(ctx, 2*time.Second)
		err := a.ready(ask)
		stop()
		if err == nil {
			return nil
		}
		select {
		case <-pause.C:
		case <-a.proc.exited:
			return fmt.Errorf("consul ended: %w\n%s", errOr(a.proc.err, "exit status 0"), a.LogTail(4000))
		case <-ctx.Done():
			return fmt.Errorf("consul has no leader: %w (%w)\n%s", err, ctx.Err(), a.LogTail(4000))
		}
	}
}

// ready is nil when the agent takes registrations.
func (a *Agent) ready(ctx context.Context) error {
	// Consistent, because a leader answers other queries before it has read all
	// of its log.
	q := (&api.QueryOptions{RequireConsistent: true}).WithContext(ctx)
	// Asked first, because it answers at once: a query that comes before the
	// election is held for seconds.
	leader, err := a.client.Status().LeaderWithQueryOptions(q)
	if err != nil {
		return err
	}
	if leader == "" {
		return errors.New("no leader")
	}
	checks, _, err := a.client.Health().State(api.HealthPassing, q)
	if err != nil {
		return err
	}
	alive := 0
	for _, c := range checks {
		if c.CheckID == "serfHealth" {
			alive++
		}
	}
	if alive < a.servers {
		return fmt.Errorf("%d of %d servers in the catalog", alive, a.servers)
	}
	return nil
}

// LogTail returns the last n bytes of the log, of all runs.
func (a *Agent) LogTail(n int) string {
	text, err := os.ReadFile(filepath.Join(a.dir, logName))
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-n):])
}

func errOr(err error, otherwise string) error {
	if err != nil {
		return err
	}
	return errors.New(otherwise)
}
