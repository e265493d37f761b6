package nomad

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"dill/controlplane/source"
	"dill/controlplane/source/sourcetest"
)

func TestServicesWithTheTagAreReported(t *testing.T) {
	f := newFake(t)
	f.set("web", 2)
	f.change(func() { f.services["plain"] = []registration{{ID: "x", Tags: []string{"http"}}} })
	w := follow(t, Options{Address: f.URL}, nil)
	s := w.UntilShown("web:2")
	want := source.Instance{ID: "web-1", Host: "127.0.0.1", Port: 20001, CreateIndex: 5, Tags: []string{"dill", "dill.listener=local:8080", " dill.weight=2"}}
	if got := s.Services[0].Instances[1]; fmt.Sprint(got) != fmt.Sprint(want) || s.Services[0].CreateIndex != 5 {
		t.Errorf("instance %+v, want %+v", got, want)
	}
	f.set("web", 3)
	w.UntilShown("web:3")
	f.set("api", 1)
	w.UntilShown("api:1 web:3")
	f.set("web", 0)
	w.UntilShown("api:1")
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := f.asked["/v1/service/plain"]; n > 0 {
		t.Errorf("a service without the tag was asked for %d times", n)
	}
}

func TestFailureKeepsWhatIsKnown(t *testing.T) {
	for name, tt := range map[string]struct {
		instead func(http.ResponseWriter, *http.Request) bool
		want    string // in the error
	}{
		"no leader":      {respond(500, "", "No cluster leader\n"), "answered 500 Internal Server Error: No cluster leader"},
		"forbidden":      {respond(403, "", "Permission denied"), `answered 403 Forbidden; the token needs namespace "<name>" { capabilities = ["read-job"] }`},
		"too many":       {respond(429, "", "Your IP is issuing too many concurrent connections\n"), "answered 429 Too Many Requests: Your IP"},
		"filtered":       {respond(200, "X-Nomad-Index: 0", "[]"), "without an index"},
		"another server": {respond(200, "", "[]"), "without an index"},
		"null":           {respond(200, "X-Nomad-Index: 99", "null"), "without a list"},
		"object":         {respond(200, "X-Nomad-Index: 99", "{}"), "answer is no list"},
		"html":           {respond(200, "X-Nomad-Index: 99", "<html>"), "answer is no list"},
		"cut off":        {respond(200, "X-Nomad-Index: 99", `[{"Namespace": "default", "Serv`), "answer is no list: unexpected EOF"},
		"redirect":       {respond(307, "Location: http://127.0.0.1:1/", ""), "answered 307 Temporary Redirect"},
		"control":        {respond(500, "", "a\x1b[31m\nb\xff"), "answered 500 Internal Server Error: a [31m b"},
		"reset":          {reset, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			f.set("web", 2)
			w := follow(t, Options{Address: f.URL}, nil)
			w.UntilShown("web:2")
			f.misbehave(tt.instead)
			s := w.Until("with the error", func(s source.Snapshot) bool { return s.Err != nil && strings.Contains(s.Err.Error(), tt.want) })
			if show(s) != "!web:2" || s.StaleSince.IsZero() || !strings.HasPrefix(s.Err.Error(), "nomad at "+f.URL+": ") {
				t.Errorf("snapshot %+v", s)
			}
			f.misbehave(nil)
			f.set("web", 1)
			if s := w.UntilShown("web:1"); !s.StaleSince.IsZero() {
				t.Errorf("snapshot after recovery %+v", s)
			}
			log := w.Log.String()
			if strings.Count(log, "keeping what is known") != 1 || strings.Count(log, "current again") != 1 {
				t.Errorf("log:\n%s", log)
			}
		})
	}
}

func reset(w http.ResponseWriter, _ *http.Request) bool {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	conn.Close()
	return true
}

// A service that cannot be read is stale by itself: the others come, change and
// go.
func TestOneServiceFails(t *testing.T) {
	f := newFake(t)
	f.set("good", 1)
	f.set("zbad", 1)
	f.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		return strings.HasSuffix(r.URL.Path, "/zbad") && respond(500, "", "broken")(w, r)
	})
	w := follow(t, Options{Address: f.URL}, nil)
	stale := func(services string) func(source.Snapshot) bool {
		return func(s source.Snapshot) bool {
			return show(s) == services && len(s.Stale) == 1 && s.Stale[0].Service == "zbad"
		}
	}
	s := w.Until("with zbad stale", stale("good:1"))
	if one := s.Stale[0]; !one.Since.IsZero() || one.Err == nil || !strings.HasPrefix(one.Err.Error(), "answered 500") {
		t.Errorf("stale is %+v", one)
	}
	f.set("good", 2)
	w.Until("with good changed", stale("good:2"))
	f.set("good", 0)
	w.Until("with good gone", stale(""))
	f.misbehave(nil)
	s = w.UntilShown("zbad:1")
	if len(s.Stale) > 0 {
		t.Errorf("stale is %+v", s.Stale)
	}
	f.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		return strings.HasSuffix(r.URL.Path, "/zbad") && respond(500, "", "broken")(w, r)
	})
	s = w.Until("with zbad stale, and kept", stale("zbad:1"))
	if time.Since(s.Stale[0].Since) > time.Minute {
		t.Errorf("stale is %+v", s.Stale[0])
	}
	if !strings.Contains(w.Log.String(), `msg="services are stale"`) || strings.Contains(w.Log.String(), "not current") {
		t.Errorf("log:\n%s", w.Log)
	}
}

// A service whose questions get no answer, or that breaks the connection, is stale
// by itself, too, also at the first reading.
func TestOneServiceBreaksConnections(t *testing.T) {
	for title, bad := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"no answer": func(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true },
		"reset":     reset,
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			f.set("good", 1)
			f.set("zbad", 1)
			f.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
				return strings.HasSuffix(r.URL.Path, "/zbad") && bad(w, r)
			})
			w := follow(t, Options{Address: f.URL}, func(s *Source) { s.client.prompt = time.Second })
			stale := func(services string) func(source.Snapshot) bool {
				return func(s source.Snapshot) bool {
					return show(s) == services && s.Synced && len(s.Stale) == 1 && s.Stale[0].Service == "zbad"
				}
			}
			w.Until("with zbad stale", stale("good:1"))
			f.set("good", 0)
			w.Until("with good gone", stale(""))
			if strings.Contains(w.Log.String(), "not current") {
				t.Errorf("log:\n%s", w.Log)
			}
		})
	}
}

// At the first contact nothing is old, and nothing went back.
func TestFirstContact(t *testing.T) {
	f := newFake(t)
	f.set("web", 1)
	f.misbehave(respond(500, "", "No cluster leader"))
	w := follow(t, Options{Address: f.URL, Stale: true}, nil)
	w.UntilShown("!?")
	f.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("X-Nomad-KnownLeader", "false")
		w.Header().Set("X-Nomad-Index", "12")
		body := "[]"
		if strings.HasSuffix(r.URL.Path, "/services") {
			body = `[{"Namespace": "default", "Services": []}]`
		}
		fmt.Fprint(w, body)
		return true
	})
	w.UntilShown("~")
	log := w.Log.String()
	for _, wrong := range []string{"went back", "0001-01-01", "keeping what is known", "current again"} {
		if strings.Contains(log, wrong) {
			t.Errorf("%q in the log:\n%s", wrong, log)
		}
	}
	for _, right := range []string{"cannot be read yet", "knows no leader", "nomad read"} {
		if strings.Count(log, right) != 1 {
			t.Errorf("not one %q in the log:\n%s", right, log)
		}
	}
}

func TestServerIsAwayAtStart(t *testing.T) {
	f := httptest.NewServer(http.NotFoundHandler())
	f.Close()
	s := follow(t, Options{Address: f.URL}, nil).UntilShown("!?")
	if !strings.HasSuffix(s.Err.Error(), "connection refused") || !s.StaleSince.IsZero() {
		t.Errorf("snapshot %+v", s)
	}
}

// A server that holds every request for ever, as one behind a partition does.
func TestSilentServerIsNoticed(t *testing.T) {
	f := newFake(t)
	f.set("web", 1)
	w := follow(t, Options{Address: f.URL, Wait: 200 * time.Millisecond}, func(s *Source) { s.client.hold = 300 * time.Millisecond })
	w.UntilShown("web:1")
	f.misbehave(func(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true })
	if s := w.UntilShown("!web:1"); !strings.Contains(s.Err.Error(), "no answer within 512.5ms") {
		t.Errorf("error %v", s.Err)
	}
}

func TestIndexThatGoesBackIsSuspect(t *testing.T) {
	f := newFake(t)
	f.set("web", 2)
	w := follow(t, Options{Address: f.URL}, nil)
	w.UntilShown("web:2")
	f.change(func() { f.index = 3; delete(f.services, "web") }) // a restored snapshot
	w.UntilShown("~")
	for _, s := range w.All() {
		if len(s.Services) == 0 && s.Synced && !s.Suspect {
			t.Errorf("a removal by a lower index is not suspect: %+v", s)
		}
	}
	f.set("web", 1) // waits on the new, low index
	w.UntilShown("~web:1")
}

func TestLeaderlessAnswerIsSuspect(t *testing.T) {
	f := newFake(t)
	f.set("web", 2)
	w := follow(t, Options{Address: f.URL, Stale: true}, nil)
	w.UntilShown("web:2")
	f.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("stale") != "true" {
			t.Error("stale was not asked for")
		}
		w.Header().Set("X-Nomad-KnownLeader", "false")
		w.Header().Set("X-Nomad-Index", "12")
		fmt.Fprint(w, "[]")
		return true
	})
	w.UntilShown("~")
}

// Nomad allows 100 connections by default.
func TestManyServicesOnFewConnections(t *testing.T) {
	const n = 3 * maxConns
	f := newFake(t)
	for i := range n {
		f.set(fmt.Sprintf("s%03d", i), 1)
	}
	w := follow(t, Options{Address: f.URL}, nil)
	instances := func(want int) func(source.Snapshot) bool {
		return func(s source.Snapshot) bool {
			have := 0
			for _, svc := range s.Services {
				have += len(svc.Instances)
			}
			return s.Synced && s.Err == nil && have == want
		}
	}
	w.Until("of all services", instances(n))
	// Each is seen to change, whether it is watched or followed.
	for i := range n {
		f.set(fmt.Sprintf("s%03d", i), 2)
	}
	w.Until("with every change", instances(2*n))
	f.mu.Lock()
	max := f.connsMax
	f.mu.Unlock()
	if max > maxConns {
		t.Errorf("%d connections, want at most %d", max, maxConns)
	}
	t.Logf("%d connections for %d services", max, n)
}

func TestTokenGoesToNomadAlone(t *testing.T) {
	const token = "s3cr3t-t0ken"
	var leaked, asked atomic.Bool
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { leaked.Store(true) }))
	defer elsewhere.Close()
	f := newFake(t)
	f.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		asked.Store(r.Header.Get("X-Nomad-Token") == token)
		http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusTemporaryRedirect)
		return true
	})
	w := follow(t, Options{Address: f.URL, Token: token}, nil)
	s := w.UntilShown("!?")
	if !asked.Load() || leaked.Load() {
		t.Errorf("token sent to nomad: %t; followed a redirect with it: %t", asked.Load(), leaked.Load())
	}
	if shown := s.Err.Error() + w.Log.String(); strings.Contains(shown, token) {
		t.Errorf("the token was shown:\n%s", shown)
	}
}

func TestConfirmReadsEverythingAnew(t *testing.T) {
	f := newFake(t)
	for i := range 20 {
		f.set(fmt.Sprintf("s%02d", i), 1+i%2)
	}
	s := newSource(t, Options{Address: f.URL, Stale: true}, new(sourcetest.Log))
	defer s.client.close()
	f.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Has("stale") || r.URL.Query().Has("index") {
			t.Errorf("not a read by the leader: %s", r.URL)
		}
		return false
	})
	got, err := s.Confirm(t.Context())
	if err != nil || !got.Synced || len(got.Services) != 20 || len(got.Services[1].Instances) != 2 {
		t.Errorf("Confirm: %s, %v", show(got), err)
	}
	f.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		return strings.HasSuffix(r.URL.Path, "/s07") && respond(500, "", "")(w, r)
	})
	got, err = s.Confirm(t.Context())
	if err != nil || !got.Synced || len(got.Services) != 19 || len(got.Stale) != 1 || got.Stale[0].Service != "s07" {
		t.Errorf("Confirm with one service failing: %s, stale %v, %v", show(got), got.Stale, err)
	}
	s.client.prompt = 8 * time.Second
	f.misbehave(func(_ http.ResponseWriter, r *http.Request) bool {
		silent := strings.HasSuffix(r.URL.Path, "/s07")
		if silent {
			<-r.Context().Done()
		}
		return silent
	})
	got, err = s.Confirm(t.Context())
	if err != nil || !got.Synced || len(got.Services) != 19 || len(got.Stale) != 1 || got.Stale[0].Service != "s07" {
		t.Errorf("Confirm with one service silent: %s, stale %v, %v", show(got), got.Stale, err)
	}
	f.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		return strings.HasSuffix(r.URL.Path, "/s07") && reset(w, r)
	})
	if got, err := s.Confirm(t.Context()); err == nil || got.Synced {
		t.Errorf("Confirm with a broken connection: %s, %v", show(got), err)
	}
}

func TestBadOptions(t *testing.T) {
	for name, o := range map[string]Options{
		"no address":     {Wait: 1},
		"no URL":         {Address: "127.0.0.1:4646", Wait: 1},
		"unix":           {Address: "unix:///run/nomad.sock", Wait: 1},
		"no wait":        {Address: "http://127.0.0.1:4646"},
		"no such CA":     {Address: "https://h", Wait: 1, CA: "testdata/none.pem"},
		"CA of no PEM":   {Address: "https://h", Wait: 1, CA: "doc.go"},
		"cert, no key":   {Address: "https://h", Wait: 1, Cert: "doc.go"},
		"cert of no PEM": {Address: "https://h", Wait: 1, Cert: "doc.go", Key: "doc.go"},
	} {
		if _, err := New(o, nil); err == nil || !strings.HasPrefix(err.Error(), "nomad ") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}
