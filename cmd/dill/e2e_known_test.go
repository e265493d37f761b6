package main

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"dill/controlplane/consultest"
	"dill/dataplane/dptest"
)

// faulty stands between dill and Consul and answers some questions itself, with
// a status that is no answer.
type faulty struct {
	*httptest.Server
	status atomic.Pointer[func(path string) int] // by escaped path; 0 = Consul answers
}

func newFaulty(t *testing.T, agent *consultest.Agent) *faulty {
	t.Helper()
	target, err := url.Parse(agent.Addr())
	must(t, err)
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport: &http.Transport{MaxIdleConnsPerHost: 20},
		ErrorLog:  log.New(io.Discard, "", 0), // watches that end are no errors
	}
	f := new(faulty)
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status := f.status.Load(); status != nil {
			if code := (*status)(r.URL.EscapedPath()); code != 0 {
				http.Error(w, "not now", code)
				return
			}
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		f.CloseClientConnections()
		f.Close()
		proxy.Transport.(*http.Transport).CloseIdleConnections()
	})
	return f
}

// refuse has the health of these services answered by statuses, in turns.
func (f *faulty) refuse(services ...string) {
	status := func(path string) int {
		for i, name := range services {
			if path == "/v1/health/service/"+name {
				return []int{http.StatusInternalServerError, http.StatusTooManyRequests}[i%2]
			}
		}
		return 0
	}
	f.status.Store(&status)
}

// unreadable is a dill some of whose services cannot be read from a certain
// moment on.
type unreadable struct {
	t        *testing.T
	agent    *consultest.Agent
	faulty   *faulty
	rig      *rig
	settings string
	ports    []netip.AddrPort
}

// waits lets dill notice within the test that rights are back.
const waits = "consul.wait = '1s'\n"

const readable = 5 // the first services; as many again are not

func (u *unreadable) hidden() (names []string) {
	for i := range readable {
		names = append(names, name(readable+i))
	}
	return names
}

// serves tells whether all ports are served by their own backends.
func (u *unreadable) serves() bool {
	for i, port := range u.ports {
		if text, err := hear(port); err != nil || text != name(i) {
			return false
		}
	}
	return true
}

// situation is why services cannot be read.
type situation struct {
	name       string
	acl        bool
	begin, end func(*unreadable)
	told       string // by Peek
}

// full is a policy that hides nothing, but for what rules say besides.
func full(rules ...string) []string {
	return append([]string{`service_prefix "" { policy = "read" }`, `node_prefix "" { policy = "read" }`}, rules...)
}

var situations = []situation{
	{"statuses", false,
		func(u *unreadable) { u.faulty.refuse(u.hidden()...) },
		func(u *unreadable) { u.faulty.refuse() }, `consul (answers (500|429): |allows no more connections)`},
	{"service rights lost", true,
		func(u *unreadable) {
			var rules []string
			for _, name := range u.hidden() {
				rules = append(rules, fmt.Sprintf("service %q { policy = \"deny\" }", name))
			}
			grant(u.t, u.agent, "dill", full(rules...)...)
		},
		func(u *unreadable) { grant(u.t, u.agent, "dill", full()...) }, `instances are hidden: `},
	{"node rights lost", true,
		func(u *unreadable) { grant(u.t, u.agent, "dill", full(`node "`+elsewhere+`" { policy = "deny" }`)...) },
		func(u *unreadable) { grant(u.t, u.agent, "dill", full()...) }, `instances are hidden: `},
}

// newUnreadable runs dill with all services served.
func newUnreadable(t *testing.T, s situation) *unreadable {
	t.Helper()
	agent := consultest.New(t, consultest.Options{ACL: s.acl})
	u := &unreadable{t: t, agent: agent, faulty: newFaulty(t, agent)}
	u.settings = fmt.Sprintf("consul.address = %q\nstate.path = %q\n"+unsettled+waits, u.faulty.URL, filepath.Join(t.TempDir(), "state"))
	if s.acl {
		grant(t, agent, "dill", full()...)
		u.settings += fmt.Sprintf("consul.token = %q\n", newToken(t, agent, "dill").SecretID)
	}
	u.rig = launch(t, u.settings)
	for i := range 2 * readable {
		port, register := freeAddr(t), register
		if i >= readable {
			register = registerElsewhere
		}
		register(t, agent, name(i), name(i), saying(t, name(i)).Addr(), port)
		u.ports = append(u.ports, port)
	}
	u.rig.eventually("all ports are served", u.serves)
	return u
}

// What cannot be read at the moment of a reload or a restart stays open, on the
// instances that were last known, for as long as it cannot be read, and is
// shown with its age. Others come and go meanwhile.
func TestWhatIsKnownOutlivesReloadAndRestart(t *testing.T) {
	for how, transition := range map[string]func(*unreadable){
		"reload": func(u *unreadable) {
			u.rig.configure(strings.Replace(u.settings, waits, "consul.wait = '2s'\n", 1))
			u.rig.signal(syscall.SIGHUP)
			u.rig.says(`msg="configuration read again"`)
		},
		"restart": func(u *unreadable) {
			u.rig.signal(syscall.SIGTERM)
			u.rig.exits(exitOK)
			u.rig.start()
		},
	} {
		for _, s := range situations {
			t.Run(how+"/"+s.name, func(t *testing.T) {
				t.Parallel()
				u := newUnreadable(t, s)
				u.t = t
				s.begin(u)
				transition(u)
				u.rig.eventually("all ports are served", u.serves)
				for _, name := range u.hidden() {
					u.rig.peekSays(`\nstale\n(├ .*\n)*├ consul/` + name + `: last current \d+s ago: ` + s.told)
				}
				u.rig.says(`msg="service kept as it was last known" source=consul service=` + name(readable) + ` since=`)
				// Longer than settling.
				dptest.Steady(t, 4*time.Second, "all ports are served", u.serves)
				u.rig.unharmed()

				hello, late := saying(t, "late"), freeAddr(t)
				register(t, u.agent, "late", "late", hello.Addr(), late)
				u.rig.answers(late, "late")
				must(t, u.agent.Deregister(name(0)))
				u.rig.closesWithin(promptly, u.ports[0])

				s.end(u)
				u.rig.eventually("all is read", func() bool { return !strings.Contains(u.rig.table(), "\nstale\n") })
				_, err := u.agent.Client().Catalog().Deregister(&api.CatalogDeregistration{Node: elsewhere, ServiceID: name(readable)}, nil)
				must(t, err)
				u.rig.closesWithin(promptly, u.ports[readable])
				for _, i := range []int{0, readable} {
					u.rig.says(fmt.Sprintf(`msg="port closed" listener=%v owner=consul/%s`, u.ports[i], name(i)))
				}
				u.rig.logged(2, "port closed")
			})
		}
	}
}

// A restart during the linger opens the port again, on the instances that
// passed last, and its time counts anew; with Consul down it has no end.
func TestRestartDuringTheLinger(t *testing.T) {
	t.Parallel()
	const linger = 3 * time.Second
	path := filepath.Join(t.TempDir(), "state")
	agent, r, one, port := serveOne(t, fmt.Sprintf("listeners.linger = '%v'\nstate.path = %q\n", linger, path))
	never := talking(t, "never passed")
	s := instance("web", "web-2", never.Addr(), port)
	s.Checks = append(s.Checks, consultest.TTL("critical"))
	must(t, agent.Register(s))
	must(t, agent.SetTTL("web-1", "critical"))
	r.peekSays(`\nlingering\n`)
	restart := func() {
		t.Helper()
		r.signal(syscall.SIGTERM)
		r.exits(exitOK)
		r.start()
		r.shows(port, one.Addr())
	}
	agent.Kill()
	restart()
	r.peekSays(`\nlingering\n├ ` + port.String() + `: `)
	probes := probe(t, port)
	probes.unharmedUntil(t, time.Now().Add(linger+time.Second))
	probes.only(t, "one")

	// It is the same when Consul is up, and says that all is critical.
	restart()
	must(t, agent.Restart(t.Context()))
	for id, backend := range map[string]*dptest.Backend{"web-1": one, "web-2": never} {
		s := instance("web", id, backend.Addr(), port)
		s.Checks = append(s.Checks, consultest.TTL("critical"))
		must(t, agent.Register(s))
	}
	r.says(`msg="consul is current again"`)
	restart()
	began := time.Now()
	r.closesWithin(2*linger, port)
	if after := time.Since(began); after < linger-time.Second {
		t.Errorf("closed %v after the restart, want %v", after, linger)
	}
}

// A service that cannot be read, and never could, does not keep another's port
// open: neither one that Consul or a proxy before it refuses, nor one whose name
// is odd.
func TestUnreadableServiceKeepsNoOtherOpen(t *testing.T) {
	t.Parallel()
	for _, odd := range []string{"refused", "/service.v1", "a//b", ".", ".."} {
		t.Run(odd, func(t *testing.T) {
			t.Parallel()
			agent := consultest.New(t, consultest.Options{})
			f := newFaulty(t, agent)
			f.refuse("refused")
			r := launch(t, fmt.Sprintf("consul.address = %q\nlisteners.linger = '1h'\n", f.URL))
			hello := saying(t, "hello")
			register(t, agent, odd, "odd", hello.Addr(), freeAddr(t))
			port := r.opens(agent, "good", hello)
			must(t, agent.Deregister("good"))
			r.closesWithin(promptly, port)
			if odd == "refused" {
				r.peekSays(`\nstale\n├ consul/refused: never current: consul answers 500: not now\n`)
			}
		})
	}
}

// consul.max_stale bounds how old what is served may get.
func TestMaxStaleClosesWhatNobodyCanRead(t *testing.T) {
	t.Parallel()
	agent, r, _, port := serveOne(t, "consul.max_stale = '3s'\n")
	agent.Kill()
	r.says(`msg="consul is not current"`)
	r.closed(port)
	r.says(`msg="what is known is too old to be served" source=consul services=1 for=3s`)
	r.peekSays(`^nothing is served: `)
}

// A state file that cannot be written is named in the log, once, and in Peek, as
// long as that lasts.
func TestStateThatCannotBeSavedIsShown(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "later")
	_, r, _, _ := serveOne(t, fmt.Sprintf("state.path = %q\n", filepath.Join(dir, "state")))
	r.peekSays(`\nnot saved\n├ ` + dir + `/state for \d+s: there is no directory ` + dir + `\n`)
	r.says(`level=ERROR msg="state not saved, a restart would not know the routes" path=` + dir + `/state err="there is no directory ` + dir + `"`)
}

// An agent comes back empty, and the instance registers anew under another ID,
// with a lower index and the wish to know its clients. What is kept of its former
// registration, which settles, does not speak for its address.
func TestGhostOfAnotherHistoryDoesNotSpeak(t *testing.T) {
	t.Parallel()
	agent := consultest.New(t, consultest.Options{})
	r := launch(t, fmt.Sprintf("consul.address = %q\nconsul.settle = '1h'\nstate.path = %q\n", agent.Addr(), filepath.Join(t.TempDir(), "state")))
	first := serve(t, func(p *dptest.Peer) { // tells its first line
		if line, err := bufio.NewReader(p.Conn()).ReadString('\n'); err == nil {
			_, _ = io.WriteString(p.Conn(), line)
		}
	})
	line := func(port netip.AddrPort) string {
		p, err := dptest.Connect(port, dptest.Socket{})
		if err != nil {
			return err.Error()
		}
		defer p.Reset()
		if _, err := io.WriteString(p.Conn(), "hello\n"); err != nil {
			return err.Error()
		}
		text, _ := bufio.NewReader(p.Conn()).ReadString('\n')
		return text
	}
	port := freeAddr(t)
	for i := range 50 { // counts the index up
		must(t, agent.Register(consultest.Service{ID: name(i), Name: name(i), Port: 1}))
	}
	register(t, agent, "web", "web-1", first.Addr(), port)
	r.eventually("the port serves", func() bool { return line(port) == "hello\n" })

	must(t, agent.Restart(t.Context()))
	s := instance("web", "web-2", first.Addr(), port)
	s.Tags = append(s.Tags, "dill.proxy_protocol=v1")
	must(t, agent.Register(s))
	r.eventually("the backend is told its client", func() bool { return strings.HasPrefix(line(port), "PROXY TCP4 ") })
	r.peekSays(`\nwaiting\n├ consul: 1 instance gone`)

	// Nor does it after a restart, while Consul cannot be asked.
	agent.Kill()
	r.signal(syscall.SIGTERM)
	r.exits(exitOK)
	r.start()
	r.eventually("the port serves", func() bool { return strings.Contains(line(port), "\n") })
	if text := line(port); !strings.HasPrefix(text, "PROXY TCP4 ") {
		t.Errorf("the backend hears %q", text)
	}
}
