package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"dill/controlplane/consultest"
	"dill/dataplane/dptest"
)

// stand is a server that serves routes, as text that the test changes and
// breaks. Nomad's part is played here because only what it says matters; its
// own package has the tests with a real one.
type stand struct {
	*httptest.Server

	mu     sync.Mutex
	index  int
	moved  chan struct{} // closed and replaced when anything changes
	answer func(path string) (contentType, text string)
}

func newStand(t *testing.T) *stand {
	t.Helper()
	s := &stand{index: 1, moved: make(chan struct{})}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

// set replaces the answers; nil is an error of the server's.
func (s *stand) set(answer func(path string) (contentType, text string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index++
	s.answer = answer
	close(s.moved)
	s.moved = make(chan struct{})
}

// ServeHTTP answers at once, or when there is something new for whoever knows
// the present index, as Nomad does.
func (s *stand) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for {
		s.mu.Lock()
		index, moved, answer := fmt.Sprint(s.index), s.moved, s.answer
		s.mu.Unlock()
		if answer != nil && r.FormValue("index") == index {
			select {
			case <-moved:
				continue
			case <-r.Context().Done():
				return
			case <-time.After(time.Second):
			}
		}
		if answer == nil {
			http.Error(w, "out of order", http.StatusInternalServerError)
			return
		}
		contentType, text := answer(r.URL.Path)
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("X-Nomad-Index", index)
		_, _ = io.WriteString(w, text)
		return
	}
}

// document is a routing file with one service, or with none.
func document(service string, listener netip.AddrPort, backends ...*dptest.Backend) func(string) (string, string) {
	text := `{"services": []}`
	if len(backends) > 0 {
		text = fmt.Sprintf(`{"services": [{"name": %q, "listener": "local:%d", "backends": [%q]}]}`, service, listener.Port(), backends[0].Addr())
	}
	return func(string) (string, string) { return "application/json", text }
}

// catalog is what Nomad says of one service, or of none.
func catalog(service string, listener netip.AddrPort, backends ...*dptest.Backend) func(string) (string, string) {
	list, instances := "[]", "[]"
	if len(backends) > 0 {
		b, tags := backends[0].Addr(), fmt.Sprintf(`["dill", "dill.listener=local:%d"]`, listener.Port())
		list = fmt.Sprintf(`[{"Namespace": "default", "Services": [{"ServiceName": %q, "Tags": %s}]}]`, service, tags)
		instances = fmt.Sprintf(`[{"ID": "n-1", "ServiceName": %q, "Namespace": "default", "Address": %q, "Port": %d, "Tags": %s, "CreateIndex": 7}]`, service, b.Addr(), b.Port(), tags)
	}
	return func(path string) (string, string) {
		switch path {
		case "/v1/services":
			return "application/json", list
		case "/v1/service/" + service:
			return "application/json", instances
		}
		return "application/json", "[]"
	}
}

// ensemble is a dill with one source of each kind.
type ensemble struct {
	*rig
	files    *routes
	agent    *consultest.Agent
	nomad    *stand
	endpoint *stand
	backends map[string]*dptest.Backend // by source, each telling its name
}

func newEnsemble(t *testing.T) *ensemble {
	t.Helper()
	s := &ensemble{
		files: newRoutes(t), agent: consultest.New(t, consultest.Options{}), nomad: newStand(t), endpoint: newStand(t),
		backends: make(map[string]*dptest.Backend),
	}
	for _, name := range []string{"file", "consul", "nomad", "http"} {
		s.backends[name] = saying(t, name)
		s.withdraw(t, name)
	}
	s.rig = launch(t, fmt.Sprintf(`
file.path = %q
consul.address = %q
nomad.address = %q
http.endpoint = %q
http.poll_interval = '100ms'
`, s.files.path, s.agent.Addr(), s.nomad.URL, s.endpoint.URL))
	return s
}

// claim has a source announce a service web that asks for a listener.
func (s *ensemble) claim(t *testing.T, source string, listener netip.AddrPort) {
	t.Helper()
	b := s.backends[source]
	switch source {
	case "file":
		s.files.set(route{"web", listener, to(b)})
	case "consul":
		register(t, s.agent, "web", "web", b.Addr(), listener)
	case "nomad":
		s.nomad.set(catalog("web", listener, b))
	case "http":
		s.endpoint.set(document("web", listener, b))
	}
}

// withdraw takes a source's service back, if there is one.
func (s *ensemble) withdraw(t *testing.T, source string) {
	t.Helper()
	switch source {
	case "file":
		s.files.set()
	case "consul":
		_ = s.agent.Deregister("web") // there may be none
	case "nomad":
		s.nomad.set(catalog("web", netip.AddrPort{}))
	case "http":
		s.endpoint.set(document("web", netip.AddrPort{}))
	}
}

// refuses waits until Peek says that a source's claim is refused because
// another's owns the listener.
func (s *ensemble) refuses(source, owner string, listener netip.AddrPort) {
	s.t.Helper()
	s.peekSays(fmt.Sprintf(`\nrefused\n(├ .*\n)*├ %s/web .*local:%d: owned by %s/web\n`, source, listener.Port(), owner))
}

// Two sources that claim one listener are two services that do: the incumbent
// keeps it, whatever the order of sources, and Peek shows the others with the
// reason. When it leaves, that order decides.
func TestConflictBetweenSourcesIsAnOwnershipConflict(t *testing.T) {
	t.Parallel()
	s := newEnsemble(t)
	port := freeAddr(t)
	s.claim(t, "http", port)
	s.answers(port, "http")
	serving := probe(t, port)
	for _, later := range []string{"nomad", "consul", "file"} {
		s.claim(t, later, port)
		s.refuses(later, "http", port)
	}
	serving.hear(t, "http", 10)

	// None of the newcomers has ever had it: file, consul, nomad.
	owner := "http"
	for _, next := range []string{"file", "consul", "nomad"} {
		s.withdraw(t, owner)
		serving.hear(t, next, 10)
		s.eventually("Peek shows the new owner", func() bool {
			text := s.table()
			return strings.HasPrefix(text, fmt.Sprintf("%v\n├ round_robin\n├──➤ %v\n", port, s.backends[next].Addr())) &&
				!strings.Contains(text, "├ "+next+"/web ")
		})
		owner = next
	}
	s.eventually("nothing is refused", func() bool { return !strings.Contains(s.table(), "refused") })
	heard := serving.stop()
	must(t, serving.failure())
	if len(heard) != 4 {
		t.Errorf("the port was served by %v", heard)
	}
	s.unharmed()
	s.withdraw(t, owner)
	s.closed(port)
}

// A source that fails keeps what it said last, and is no obstacle to the
// others.
func TestSourceThatFailsStopsNoOther(t *testing.T) {
	t.Parallel()
	s := newEnsemble(t)
	ports := make(map[string]netip.AddrPort)
	for name := range s.backends {
		ports[name] = freeAddr(t)
		s.claim(t, name, ports[name])
		s.answers(ports[name], name)
	}
	for _, failing := range []struct {
		source string
		fail   func()
		next   string // a source that works
	}{
		{"http", func() { s.endpoint.set(nil) }, "nomad"},
		{"nomad", func() { s.nomad.set(nil) }, "file"},
		{"file", func() { replace(t, s.files.path, "services: {") }, "consul"},
		{"consul", s.agent.Kill, ""},
	} {
		failing.fail()
		s.peekSays(fmt.Sprintf(`\nstale\n(├ .*\n)*├ %s: last current \d+s ago: `, failing.source))
		if failing.next != "" {
			s.withdraw(t, failing.next)
			s.closed(ports[failing.next])
			s.claim(t, failing.next, ports[failing.next])
		}
		for name, port := range ports {
			s.answers(port, name)
		}
	}
	s.logged(3, "port closed")
}
