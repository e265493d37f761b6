package main

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"dill/controlplane/consultest"
	"dill/dataplane/dptest"
)

// liar stands between dill and Consul. Consistent reads pass it untouched;
// others get what its lie makes of Consul's answer.
type liar struct {
	*httptest.Server
	lie   atomic.Pointer[lie]
	asked atomic.Int64 // consistent reads
}

// lie is what becomes of the answers to one kind of question.
type lie struct {
	path       string // beginning of it
	tell       func(body []byte) []byte
	leaderless bool // there is no quorum for consistent reads, either
}

func newLiar(t *testing.T, agent *consultest.Agent) *liar {
	t.Helper()
	target, err := url.Parse(agent.Addr())
	must(t, err)
	l := new(liar)
	proxy := &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(target) },
		ModifyResponse: l.modify,
		Transport:      &http.Transport{MaxIdleConnsPerHost: 20, DisableCompression: true},
		ErrorLog:       log.New(io.Discard, "", 0), // watches that end are no errors
	}
	l.Server = httptest.NewServer(proxy)
	t.Cleanup(func() {
		l.CloseClientConnections()
		l.Close()
		proxy.Transport.(*http.Transport).CloseIdleConnections()
	})
	return l
}

func (l *liar) modify(resp *http.Response) error {
	question, lie := resp.Request.URL, l.lie.Load()
	consistent := question.Query().Has("consistent")
	if consistent {
		l.asked.Add(1)
	}
	if lie == nil || !strings.HasPrefix(question.Path, lie.path) || consistent && !lie.leaderless {
		return nil
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if consistent {
		resp.StatusCode, body = http.StatusInternalServerError, []byte("No cluster leader")
	} else {
		body = lie.tell(body)
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	resp.ContentLength = int64(len(body))
	resp.Header.Set("Content-Length", strconv.Itoa(len(body)))
	return nil
}

// guarded is dill behind a liar, with more listeners than the guard's floor.
type guarded struct {
	agent *consultest.Agent
	liar  *liar
	rig   *rig
	ports []netip.AddrPort
	live  []*dptest.Peer // a session with each
}

const guardedPorts = 6

type registerFunc = func(t *testing.T, agent *consultest.Agent, service, id string, backend netip.AddrPort, listeners ...netip.AddrPort)

func newGuarded(t *testing.T, register registerFunc, settings string) *guarded {
	t.Helper()
	agent := consultest.New(t, consultest.Options{})
	g := &guarded{agent: agent, liar: newLiar(t, agent)}
	g.rig = launch(t, fmt.Sprintf("consul.address = %q\nconsul.wait = '1s'\n", g.liar.URL)+settings)
	for i := range guardedPorts {
		port, backend := freeAddr(t), talking(t, name(i))
		register(t, agent, name(i), name(i), backend.Addr(), port)
		g.rig.shows(port, backend.Addr())
		g.ports, g.live = append(g.ports, port), append(g.live, session(t, port, name(i)))
	}
	return g
}

// name is that of service i, of its only instance and of what that tells.
func name(i int) string { return fmt.Sprint("web-", i) }

// serves tells whether all ports are served by their own backends.
func (g *guarded) serves() bool {
	for i, port := range g.ports {
		if text, err := hear(port); err != nil || text != name(i) {
			return false
		}
	}
	return true
}

// A Consul that says of a sudden that most services are gone closes no port
// while a consistent read knows better, however long it says so.
func TestMassRemovalThatIsNotRealClosesNoPort(t *testing.T) {
	t.Parallel()
	shortened := func([]byte) []byte { return []byte(`{"consul":[],"web-0":["dill"]}`) }
	for _, test := range []struct {
		name string
		lie  lie
		log  string // a line, "" = nothing to say: it is seen through before
		peek string // what Peek says meanwhile
	}{
		{
			"most are missing",
			lie{path: "/v1/catalog/services", tell: shortened},
			`level=WARN msg="removal held" source=consul listeners=5 open=6`,
			`\nwaiting\n├ consul: 5 listeners gone at once, kept until a consistent read confirms it, which is (under way|tried again in \d+s)\n├ consul: \S+ of consul/`,
		}, {
			"most are missing and nobody confirms it",
			lie{path: "/v1/catalog/services", tell: shortened, leaderless: true},
			`level=WARN msg="removal not confirmed" source=consul err=.*No cluster leader.* listeners=5`,
			`\nwaiting\n├ consul: 5 listeners gone at once, kept until a consistent read confirms it, which is (under way|tried again in \d+s)\n├ consul: \S+ of consul/`,
		}, {
			"catalog empty",
			lie{path: "/v1/catalog/services", tell: func([]byte) []byte { return []byte(`{}`) }},
			`level=WARN msg="consul said that no service is left, .* not believed" host=.* services=6`, "",
		}, {
			"catalog cut off",
			lie{path: "/v1/catalog/services", tell: func(b []byte) []byte { return b[:len(b)/2] }},
			`level=WARN msg="consul is not current"`,
			`\nstale\n├ consul: last current \d+s ago: `,
		}, {
			"no instances",
			lie{path: "/v1/health/service/", tell: func([]byte) []byte { return []byte(`[]`) }},
			"", "",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			g := newGuarded(t, register, "consul.settle = '1s'\n")
			asked := g.liar.asked.Load()
			g.liar.lie.Store(&test.lie)
			if test.log != "" {
				g.rig.says(test.log)
			}
			if test.peek != "" {
				g.rig.peekSays(test.peek)
			}
			if test.log == "" {
				g.rig.eventually("Consul is asked once more", func() bool { return g.liar.asked.Load() > asked })
			}
			// Longer than settling and the first repetitions.
			dptest.Steady(t, 4*time.Second, "every port answers", g.serves)

			g.liar.lie.Store(nil)
			g.rig.eventually("Peek shows nothing but routes", func() bool {
				text := g.rig.table()
				return strings.Count(text, "──➤") == guardedPorts && !strings.Contains(text, "├ consul")
			})
			if !g.serves() {
				t.Error("a port does not answer after the lie")
			}
			if strings.Contains(g.rig.log.String(), `msg="port closed"`) {
				t.Error("a port was closed")
			}
			for _, s := range g.live {
				finishes(t, s)
			}
		})
	}
}

// All services really deregistered: that passes the guard, all ports close
// promptly, and sessions drain.
func TestMassDeregistrationClosesAllPortsPromptly(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name       string
		register   registerFunc
		deregister func(t *testing.T, agent *consultest.Agent)
		held       bool // certainly, by the guard
	}{
		{"one after the other", register, func(t *testing.T, agent *consultest.Agent) {
			for i := range guardedPorts {
				must(t, agent.Deregister(name(i)))
			}
		}, false},
		{"with their node", registerElsewhere, func(t *testing.T, agent *consultest.Agent) {
			_, err := agent.Client().Catalog().Deregister(&api.CatalogDeregistration{Node: elsewhere}, nil)
			must(t, err)
		}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			g := newGuarded(t, test.register, "listeners.linger = '1h'\nconsul.settle = '1h'\n")
			test.deregister(t, g.agent)
			end := time.Now().Add(promptly)
			for _, port := range g.ports {
				g.rig.closesWithin(time.Until(end), port)
			}
			g.rig.peekSays(`^nothing is served: no service asks for a port[^\n]*\n$`)
			if test.held {
				g.rig.says(`level=WARN msg="removal held" source=consul listeners=6 open=6`)
				g.rig.says(`level=INFO msg="removal no longer held" source=consul`)
			}
			for _, s := range g.live {
				finishes(t, s)
			}
		})
	}
}
