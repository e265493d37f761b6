package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/consul/api"

	"dill/controlplane/consultest"
)

// stage holds what the acts have started so far. One goroutine uses it.
type stage struct {
	ctx      context.Context         // ends when the demo is interrupted or too slow,
	fail     context.CancelCauseFunc // or by this, when a process ends that should not
	dir      string                  // configuration, logs, Consul's data
	dillPath string

	consul *consultest.Agent

	backends []*backend // of greeter, in the order of their start
	clock    *backend   // of the second service

	dill     *process
	peekAddr string
	greeter  string // the listener's address
	ticker   string // the second listener's address
}

// The services' names in Consul.
const (
	greeterName = "greeter"
	tickerName  = "ticker"
)

// close ends everything that runs. It may be called at any point of the story.
func (s *stage) close() error {
	var err error
	if s.dill != nil {
		err = s.endDill(5 * time.Second)
	}
	for _, b := range append(slices.Clone(s.backends), s.clock) {
		if b != nil {
			b.kill()
		}
	}
	if s.consul != nil {
		s.consul.Close()
	}
	return err
}

func (s *stage) startConsul() error {
	heading("1. A Consul dev agent")
	began := time.Now()
	agent, err := consultest.Start(s.ctx, consultest.Options{Dir: s.dir})
	if err != nil {
		return err
	}
	s.consul = agent
	say("%s, ready after %.1f s", agent.Addr(), time.Since(began).Seconds())
	return nil
}

func (s *stage) startBackends() error {
	heading("2. Two backends, registered as one service")
	for _, name := range []string{"amber", "violet"} {
		b, err := startBackend(name)
		if err != nil {
			return err
		}
		s.backends = append(s.backends, b)
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	s.greeter = fmt.Sprintf("127.0.0.1:%d", port)
	for _, b := range s.backends {
		if err := s.register(greeterName, b, s.greeter); err != nil {
			return err
		}
	}
	say("service  %s", greeterName)
	say("tags     dill, %s", listenerTag(s.greeter))
	for _, b := range s.backends {
		say("%-8s %s  (process %d)", b.name, b.addr(), b.pid())
	}
	return nil
}

// listenerTag is the tag that asks for addr, whose host is 127.0.0.1.
func listenerTag(addr string) string {
	return "dill.listener=" + strings.Replace(addr, "127.0.0.1", "local", 1)
}

// register waits until b answers and puts it into Consul, asking for listener
// and checked once a second.
func (s *stage) register(service string, b *backend, listener string) error {
	if _, err := await(s.ctx, b.name+" answers", func() bool {
		name, err := ask(b.addr())
		return err == nil && name == b.name
	}); err != nil {
		return err
	}
	check := consultest.HTTP("http://"+b.addr()+"/", time.Second)
	check.Status = api.HealthPassing // it answered a moment ago
	return s.consul.Register(consultest.Service{
		ID:      b.name,
		Name:    service,
		Address: "127.0.0.1",
		Port:    b.port,
		Tags:    []string{"dill", listenerTag(listener)},
		Checks:  api.AgentServiceChecks{check},
	})
}

func (s *stage) startDill() error {
	heading("3. dill")
	port, err := freePort()
	if err != nil {
		return err
	}
	s.peekAddr = fmt.Sprintf("127.0.0.1:%d", port)
	config := fmt.Sprintf("[consul]\naddress = %q\n\n[peek]\nlistener = %q\n", s.consul.Addr(), s.peekAddr)
	file := filepath.Join(s.dir, "dill.toml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return err
	}
	logFile, err := os.Create(s.dillLog())
	if err != nil {
		return err
	}
	defer logFile.Close() // dill has its own descriptor of it

	began := time.Now()
	cmd := exec.Command(s.dillPath, "-config", file)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	if s.dill, err = start(cmd, s.fail); err != nil {
		return fmt.Errorf("start dill: %w", err)
	}

	say("dill -config dill.toml, where dill.toml says only")
	quote(config)
	served, err := await(s.ctx, s.greeter+" is served", func() bool { _, err := ask(s.greeter); return err == nil })
	if err != nil {
		return err
	}
	say("%s serves, %s after dill was started", s.greeter, since(began, served))
	return s.showPeek("its table, from Peek", s.backends...)
}

// showPeek waits until Peek shows exactly want behind greeter, and prints it.
func (s *stage) showPeek(title string, want ...*backend) error {
	var table string
	if _, err := await(s.ctx, "Peek shows the expected backends", func() bool {
		text, err := readPeek(s.peekAddr)
		table = text
		return err == nil && slices.Equal(peekBackends(text, s.greeter), addrs(want))
	}); err != nil {
		return err
	}
	say("%s:", title)
	command("nc %s", strings.Replace(s.peekAddr, ":", " ", 1))
	quote(table)
	return nil
}

// peekBackends returns the backends that a Peek table lists behind listener.
func peekBackends(table, listener string) []string {
	_, rest, found := strings.Cut("\n"+table, "\n"+listener+"\n")
	if !found {
		return nil
	}
	var backends []string
	for line := range strings.Lines(rest) {
		if !strings.HasPrefix(line, "├") {
			break
		}
		if addr, is := strings.CutPrefix(strings.TrimSpace(line), "├──➤ "); is {
			backends = append(backends, addr)
		}
	}
	return backends
}

// addrs returns the addresses of backends in Peek's order.
func addrs(backends []*backend) []string {
	var addrs []string
	for _, b := range slices.SortedFunc(slices.Values(backends), func(a, b *backend) int { return a.port - b.port }) {
		addrs = append(addrs, b.addr())
	}
	return addrs
}

func (s *stage) balance() error {
	heading("4. Requests through the opened port")
	names, err := askTimes(s.greeter, 8)
	if err != nil {
		return err
	}
	command("curl %s    # eight times", s.greeter)
	quote(strings.Join(names, " "))
	for i := 1; i < len(names); i++ {
		if names[i] == names[i-1] {
			return fmt.Errorf("two requests in a row went to %s: that is no round robin", names[i])
		}
	}
	return nil
}

func (s *stage) openLive() error {
	heading("5. A second service, while dill runs")
	clock, err := startBackend("clock")
	if err != nil {
		return err
	}
	s.clock = clock
	port, err := freePort()
	if err != nil {
		return err
	}
	s.ticker = fmt.Sprintf("127.0.0.1:%d", port)
	if !refused(s.ticker) {
		return fmt.Errorf("%s is open before anybody asked for it", s.ticker)
	}

	// The watcher runs before the registration is sent, so that the time
	// covers all of it.
	type result struct {
		at  time.Time
		err error
	}
	served := make(chan result, 1)
	go func() {
		at, err := await(s.ctx, s.ticker+" is served", func() bool { name, err := ask(s.ticker); return err == nil && name == clock.name })
		served <- result{at, err}
	}()
	if _, err := await(s.ctx, "clock answers", func() bool { _, err := ask(clock.addr()); return err == nil }); err != nil {
		return err
	}
	told := time.Now()
	if err := s.register(tickerName, clock, s.ticker); err != nil {
		return err
	}
	r := <-served
	if r.err != nil {
		return r.err
	}
	say("registered %s with %s", tickerName, listenerTag(s.ticker))
	say("%s served its first request %s after Consul was told", s.ticker, since(told, r.at))
	return nil
}

func (s *stage) killBackend() error {
	heading("6. A backend dies")
	victim, left := s.backends[0], s.backends[1]
	victim.kill()
	died := time.Now()
	names, err := askTimes(s.greeter, 8)
	if err != nil {
		return fmt.Errorf("after %s was killed: %w", victim.name, err)
	}
	command("kill -9 %d    # %s", victim.pid(), victim.name)
	say("eight requests at once after it, none fails:")
	quote(strings.Join(names, " "))
	for _, name := range names {
		if name != left.name {
			return fmt.Errorf("%s answered, which is dead", name)
		}
	}
	gone, err := await(s.ctx, victim.name+" has left the table", func() bool {
		text, err := readPeek(s.peekAddr)
		return err == nil && slices.Equal(peekBackends(text, s.greeter), []string{left.addr()})
	})
	if err != nil {
		return err
	}
	say("Consul checks once a second; %s after the kill it has left the table:", since(died, gone))
	return s.showPeek("Peek", left)
}

func (s *stage) closePorts() error {
	heading("7. Deregistered, so closed")
	for _, service := range []struct {
		name, addr string
		instances  []*backend
	}{{tickerName, s.ticker, []*backend{s.clock}}, {greeterName, s.greeter, s.backends}} {
		told := time.Now()
		for _, b := range service.instances {
			if err := s.consul.Deregister(b.name); err != nil {
				return err
			}
		}
		closed, err := await(s.ctx, service.addr+" is closed", func() bool { return refused(service.addr) })
		if err != nil {
			return err
		}
		say("deregistered %s: %s closed %s after Consul was told", service.name, service.addr, since(told, closed))
	}
	text, err := readPeek(s.peekAddr)
	if err != nil {
		return err
	}
	command("nc %s", strings.Replace(s.peekAddr, ":", " ", 1))
	quote(text)
	return nil
}

func (s *stage) stopDill() error {
	heading("8. SIGTERM")
	began := time.Now()
	if err := s.endDill(10 * time.Second); err != nil {
		return err
	}
	say("dill ended with status 0 after %s", since(began, time.Now()))
	return nil
}

// endDill asks dill to end, and is nil when it did with status 0.
func (s *stage) endDill(limit time.Duration) error {
	dill := s.dill
	s.dill = nil
	dill.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-dill.done:
	case <-time.After(limit):
		dill.kill()
		return fmt.Errorf("dill did not end within %v of SIGTERM", limit)
	}
	if dill.err != nil {
		return fmt.Errorf("dill: %w", dill.err)
	}
	return nil
}

func (s *stage) dillLog() string { return filepath.Join(s.dir, "dill.log") }
