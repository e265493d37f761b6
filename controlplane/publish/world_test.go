package publish

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"dill/controlplane/compile"
	"dill/controlplane/resolve"
	"dill/controlplane/source"
	"dill/controlplane/state"
	"dill/dataplane/route"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a Publisher with everything around it scripted, inside a bubble.
type world struct {
	*Publisher
	t       *testing.T
	consul  *confirmer
	names   *names
	plane   *plane
	saved   []state.State
	ran     chan struct{}
	stop    context.CancelFunc
	history *logbook
}

// within runs f in a bubble with a running Publisher. The source "consul" can
// confirm, "file" cannot.
func within(t *testing.T, f func(w *world), tweak ...func(*Config)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, consul: new(confirmer), names: new(names), plane: new(plane), ran: make(chan struct{}), history: new(logbook)}
		cfg := Config{Plane: w.plane, Names: w.names, Settings: w.settings(), Save: func(s state.State) { w.saved = append(w.saved, s) }}
		for _, f := range tweak {
			f(&cfg)
		}
		w.Publisher = New(cfg, slog.New(slog.NewTextHandler(w.history, nil)))
		ctx, cancel := context.WithCancel(t.Context())
		w.stop = cancel
		go func() {
			defer close(w.ran)
			w.Run(ctx)
		}()
		synctest.Wait()
		f(w)
		cancel()
		<-w.ran
	})
}

func (w *world) settings() Settings {
	return Settings{
		Compile: compile.Options{
			Allowed: map[string]netip.Addr{"local": netip.MustParseAddr("127.0.0.1"), "any": netip.IPv4Unspecified()},
			PortMin: 1024, PortMax: 49151,
		},
		Sources:      map[string]Origin{"consul": {Confirmer: w.consul}, "file": {}},
		Settle:       DefaultSettle,
		Linger:       DefaultLinger,
		RemovalShare: DefaultRemovalShare,
	}
}

// tell sends a current, synced snapshot and waits until it was dealt with.
func (w *world) tell(from string, services ...source.Service) {
	w.send(source.Snapshot{Source: from, Synced: true, Services: services})
}

func (w *world) send(s source.Snapshot) {
	slices.SortFunc(s.Services, func(a, b source.Service) int { return strings.Compare(a.Name, b.Name) })
	w.Sink(s)
	synctest.Wait()
}

// wait lets time pass.
func (w *world) wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// serves fails the test unless exactly these listeners are published, each
// written as "5000=n1,n2": port and instances.
func (w *world) serves(when string, want ...string) {
	w.t.Helper()
	var got []string
	for _, l := range w.Status().Table.Listeners {
		var ids []string
		for _, b := range l.Backends {
			ids = append(ids, b.Instance)
		}
		got = append(got, fmt.Sprintf("%d=%s", l.Addr.Port(), strings.Join(ids, ",")))
	}
	if !slices.Equal(got, want) {
		w.t.Errorf("%s: serves %v, want %v", when, got, want)
	}
	if last := w.plane.last(); last != nil && last != w.Status().Table {
		w.t.Errorf("%s: the plane has generation %d, the status %d", when, last.Generation, w.Status().Table.Generation)
	}
}

// reaches fails the test unless the listener at port has these backends.
func (w *world) reaches(when string, port uint16, want ...string) {
	w.t.Helper()
	var got []string
	for _, l := range w.Status().Table.Listeners {
		for _, b := range l.Backends {
			if l.Addr.Port() == port {
				got = append(got, b.Addr.String())
			}
		}
	}
	if !slices.Equal(got, want) {
		w.t.Errorf("%s: port %d reaches %v, want %v", when, port, got, want)
	}
}

// svc builds a service that claims local:<port>. Each instance is written as
// its ID, with "!" behind it for critical, "~" for maintenance, "?" for
// warning.
func svc(name string, port int, ids ...string) source.Service {
	s := source.Service{Name: name, CreateIndex: 1}
	for _, id := range ids {
		in := source.Instance{
			ID: strings.TrimRight(id, "!~?"), Host: "10.0.0.1", CreateIndex: 1,
			Tags: []string{"dill", "dill.listener=local:" + strconv.Itoa(port)},
		}
		n, _ := strconv.Atoi(strings.TrimLeft(in.ID, "abcdefghijklmnopqrstuvwxyz"))
		in.Port = 9000 + n
		switch id[len(id)-1] {
		case '!':
			in.Health = source.Critical
		case '~':
			in.Health = source.Maintenance
		case '?':
			in.Health = source.Warning
		}
		s.Instances = append(s.Instances, in)
	}
	return s
}

// many is n services s0, s1, … on ports from 5000, with one instance each,
// marked as given.
func many(n int, mark string) []source.Service {
	var out []source.Service
	for i := range n {
		out = append(out, svc(fmt.Sprintf("s%02d", i), 5000+i, "n"+strconv.Itoa(i)+mark))
	}
	return out
}

// ports is what many serves.
func ports(n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("%d=n%d", 5000+i, i))
	}
	return out
}

// plane notes what is published and when, and opens every listener but those that
// fail.
type plane struct {
	mu     sync.Mutex
	tables []*route.Table
	times  []time.Time
	fails  map[netip.AddrPort]error
}

func (p *plane) Listening() map[netip.AddrPort]error {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := make(map[netip.AddrPort]error)
	if len(p.tables) > 0 {
		for _, l := range p.tables[len(p.tables)-1].Listeners {
			m[l.Addr] = p.fails[l.Addr]
		}
	}
	return m
}

// take has another process listen at addr, or stop doing so.
func (p *plane) take(addr netip.AddrPort, is bool) {
	if is {
		p.fail(addr, fmt.Errorf("listen %v: %w", addr, route.ErrInUse))
	} else {
		p.fail(addr, nil)
	}
}

// fail has addr not be opened, or be opened from now on if err is nil.
func (p *plane) fail(addr netip.AddrPort, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fails == nil {
		p.fails = make(map[netip.AddrPort]error)
	}
	p.fails[addr] = err
}

func (p *plane) Publish(t *route.Table) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tables, p.times = append(p.tables, t), append(p.times, time.Now())
}

func (p *plane) last() *route.Table {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.tables) == 0 {
		return nil
	}
	return p.tables[len(p.tables)-1]
}

func (p *plane) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.tables)
}

// confirmer answers as scripted; without a script it fails.
type confirmer struct {
	mu     sync.Mutex
	asked  int
	answer func() (source.Snapshot, error)
	delay  time.Duration
}

func (c *confirmer) Confirm(ctx context.Context) (source.Snapshot, error) {
	c.mu.Lock()
	c.asked++
	answer, delay := c.answer, c.delay
	c.mu.Unlock()
	select {
	case <-time.After(delay):
	case <-ctx.Done():
		return source.Snapshot{}, ctx.Err()
	}
	if answer == nil {
		return source.Snapshot{}, errors.New("no cluster leader")
	}
	return answer()
}

func (c *confirmer) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked
}

func (c *confirmer) says(services ...source.Service) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer = func() (source.Snapshot, error) {
		return source.Snapshot{Source: "consul", Synced: true, Services: services}, nil
	}
}

// names resolves literals, and what the test put in.
type names struct {
	mu     sync.Mutex
	known  map[string]string // "" = no such host
	sweeps int
}

func (n *names) Lookup(host string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if to, ok := n.known[host]; ok {
		host = to
	}
	if host == "" {
		return nil, errors.New("no such host")
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return nil, resolve.ErrPending
	}
	return []netip.Addr{a}, nil
}

func (n *names) Sweep() { n.mu.Lock(); n.sweeps++; n.mu.Unlock() }

func (n *names) fail(host string) { n.set(host, "") }

func (n *names) set(host, addr string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.known == nil {
		n.known = make(map[string]string)
	}
	n.known[host] = addr
}

// logbook keeps log lines.
type logbook struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logbook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logbook) count(phrase string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), phrase)
}
