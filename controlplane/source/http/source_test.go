package http

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"dill/controlplane/source"
	"dill/controlplane/source/sourcetest"
	"dill/dataplane/dptest"
)

func TestMain(m *testing.M) {
	dptest.Isolate()
	goleak.VerifyTestMain(m)
}

const interval = 5 * time.Millisecond

// endpoint is a server whose answer can be changed.
type endpoint struct {
	*httptest.Server
	mu      sync.Mutex
	handler http.HandlerFunc
	polls   int
	asked   chan struct{} // a token after each poll, dropped if nobody waits
}

func serve(t *testing.T, h http.HandlerFunc) *endpoint {
	t.Helper()
	e := &endpoint{handler: h, asked: make(chan struct{}, 1)}
	e.Server = httptest.NewServer(e)
	t.Cleanup(e.Close)
	return e
}

func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	h := e.handler
	e.polls++
	e.mu.Unlock()
	h(w, r)
	select {
	case e.asked <- struct{}{}:
	default:
	}
}

func (e *endpoint) set(h http.HandlerFunc) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.handler = h
}

// after waits until n more polls were answered.
func (e *endpoint) after(t *testing.T, n int) {
	t.Helper()
	e.mu.Lock()
	want := e.polls + n
	e.mu.Unlock()
	deadline := time.After(10 * time.Second)
	for {
		e.mu.Lock()
		polls := e.polls
		e.mu.Unlock()
		if polls >= want {
			return
		}
		select {
		case <-e.asked:
		case <-deadline:
			t.Fatalf("%d polls within 10 s, want %d", polls, want)
		}
	}
}

// follow polls an endpoint until the test ends.
func follow(t *testing.T, endpoint string, timeout time.Duration) *sourcetest.Follower {
	t.Helper()
	log := new(sourcetest.Log)
	s, err := New(endpoint, interval, timeout, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return sourcetest.Follow(t, s, log, sourcetest.Show)
}

func document(name string) string {
	return fmt.Sprintf(`{"services": [{"name": %q, "listener": "local:1234", "backends": ["127.0.0.1:5050"]}]}`, name)
}

// answerWith serves one text, always anew.
func answerWith(contentType, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if contentType != "" {
			w.Header().Set("Content-Type", contentType)
		}
		fmt.Fprint(w, text)
	}
}

func TestFormats(t *testing.T) {
	const (
		asTOML = "[[services]]\nname = 'a'\nlistener = 'local:1'\nbackends = ['10.0.0.1:1']\n"
		asYAML = "services:\n- {name: a, listener: 'local:1', backends: ['10.0.0.1:1']}\n"
	)
	for name, tt := range map[string]struct{ path, contentType, text string }{
		"json":                        {"/", "application/json", document("a")},
		"yaml":                        {"/", "application/yaml; charset=utf-8", asYAML},
		"toml":                        {"/", "application/toml", asTOML},
		"type beats extension":        {"/routes.json", "text/x-yaml", asYAML},
		"plain text with extension":   {"/routes.toml", "text/plain", asTOML},
		"unknown type with extension": {"/routes.yml", "application/octet-stream", asYAML},
		"neither":                     {"/routes", "text/plain", document("a")},
	} {
		t.Run(name, func(t *testing.T) {
			e := serve(t, answerWith(tt.contentType, tt.text))
			follow(t, e.URL+tt.path, time.Second).UntilShown("a")
		})
	}
}

func TestUnchangedDocumentCostsNoBody(t *testing.T) {
	for name, tt := range map[string]struct {
		header, value, asks string
	}{
		"ETag":          {"ETag", `W/"1"`, "If-None-Match"},
		"Last-Modified": {"Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT", "If-Modified-Since"},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			bodies, unchanged := 0, 0
			e := serve(t, func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				if r.Header.Get(tt.asks) == tt.value {
					unchanged++
					w.WriteHeader(http.StatusNotModified)
					return
				}
				bodies++
				w.Header().Set(tt.header, tt.value)
				fmt.Fprint(w, document("a"))
			})
			f := follow(t, e.URL, time.Second)
			f.UntilShown("a")
			e.after(t, 5)
			e.set(answerWith("", document("b")))
			f.UntilShown("b")
			mu.Lock()
			defer mu.Unlock()
			if bodies != 1 || unchanged < 4 {
				t.Errorf("%d bodies and %d times unchanged, want 1 and at least 4", bodies, unchanged)
			}
			if n := len(f.All()); n != 2 {
				t.Errorf("%d snapshots, want 2", n)
			}
		})
	}
}

// Two versions of the same second have the same Last-Modified.
func TestFreshDateIsNoValidator(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Format(http.TimeFormat)
	var mu sync.Mutex
	current := "a"
	e := serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		w.Header().Set("Date", now)
		if r.Header.Get("If-Modified-Since") == now {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("Last-Modified", now)
		fmt.Fprint(w, document(current))
	})
	f := follow(t, e.URL, time.Second)
	f.UntilShown("a")
	mu.Lock()
	current = "b"
	mu.Unlock()
	f.UntilShown("b")
}

func TestServerIsAway(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	f := follow(t, "http://"+addr, time.Second)
	s := f.UntilShown("!?")
	if !strings.HasSuffix(s.Err.Error(), "dial: connect: connection refused") || len(s.Services) > 0 {
		t.Errorf("snapshot without a server: %+v", s)
	}
	l, err = net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: answerWith("", document("a"))}
	go server.Serve(l)
	defer server.Close()
	f.UntilShown("a")
}

func TestConfirmAsksAnew(t *testing.T) {
	e := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("ETag", `"1"`)
		fmt.Fprint(w, document("a"))
	})
	s, err := New(e.URL, time.Hour, 10*time.Second, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.client.CloseIdleConnections()
	if err := s.poll(t.Context(), func(source.Snapshot) {}); err != nil {
		t.Fatal(err)
	}
	got, err := s.Confirm(t.Context())
	if err != nil || sourcetest.Show(got) != "a" {
		t.Errorf("Confirm: %+v, %v", got, err)
	}
	for _, h := range []http.HandlerFunc{
		answerWith("", "{"), func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) },
	} {
		e.set(h)
		if got, err := s.Confirm(t.Context()); err == nil || got.Synced {
			t.Errorf("Confirm of a failing endpoint: %+v, %v", got, err)
		}
	}
}

func TestRedirect(t *testing.T) {
	target := serve(t, answerWith("", "services: [{name: a, listener: 'local:1', backends: '10.0.0.1:1'}]"))
	e := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, target.URL+"/routes.yaml", http.StatusTemporaryRedirect)
	})
	follow(t, e.URL, time.Second).UntilShown("a")
}

// Where a document has moved to learns nothing of where it was.
func TestRedirectCarriesNoSecret(t *testing.T) {
	const secret = "s3cr3t"
	told := make(chan http.Header, 1)
	target := serve(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case told <- r.Header.Clone():
		default:
		}
		fmt.Fprint(w, document("a"))
	})
	e := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, target.URL+"/moved", http.StatusTemporaryRedirect)
	})
	u, err := url.Parse(e.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.User, u.RawQuery = url.UserPassword("dill", secret), "token="+secret
	u.Host = "localhost:" + u.Port() // credentials are for a host, not for its ports
	follow(t, u.String(), 10*time.Second).UntilShown("a")
	header := <-told
	for key, values := range header {
		if strings.Contains(strings.Join(values, "\n"), secret) {
			t.Errorf("%s carries the secret", key)
		}
	}
	if _, ok := header["Referer"]; ok || header.Get("Authorization") != "" {
		t.Errorf("it is told %v", header)
	}
}

func TestRedirectToPlainHTTPIsRefused(t *testing.T) {
	target := serve(t, answerWith("", document("a")))
	e := httptest.NewTLSServer(http.RedirectHandler(target.URL, http.StatusFound))
	defer e.Close()
	s, err := New(e.URL, interval, time.Second, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.client.CloseIdleConnections()
	s.client.Transport.(located).TLSClientConfig = e.Client().Transport.(*http.Transport).TLSClientConfig
	_, err = fetch(t.Context(), s.client, s.endpoint, validators{})
	if err == nil || err.Error() != "redirected from https to http" {
		t.Errorf("error %v", err)
	}
}

func TestUnknownCertificateIsRefused(t *testing.T) {
	e := httptest.NewUnstartedServer(answerWith("", document("a")))
	e.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	e.StartTLS()
	defer e.Close()
	if s := follow(t, e.URL, time.Second).UntilShown("!?"); !strings.Contains(s.Err.Error(), "certificate") {
		t.Errorf("error %v, want one about the certificate", s.Err)
	}
}

func TestCredentialsAreUsedAndNeverShown(t *testing.T) {
	const secret, query = "hunter2", "s3cr3t"
	e := serve(t, func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if user != "dill" || password != secret || r.URL.Query().Get("token") != query {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, document("a"))
	})
	u, err := url.Parse(e.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.User, u.RawQuery, u.Path = url.UserPassword("dill", secret), "token="+query, "/routes"
	f := follow(t, u.String(), 500*time.Millisecond)
	f.UntilShown("a")
	for _, h := range []http.HandlerFunc{
		func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }, silent, reset, cutOff,
		func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.String(), http.StatusFound) },
		func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "ftp://"+secret+":x@h/?"+query, http.StatusFound)
		},
		func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://h:"+query+"/")
			w.WriteHeader(http.StatusFound)
		},
		func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", query+"://h/")
			w.WriteHeader(http.StatusFound)
		},
	} {
		e.set(h)
		f.UntilShown("!a")
		e.set(answerWith("", document("a")))
		f.UntilShown("a")
	}
	var shown strings.Builder
	shown.WriteString(f.Log.String())
	for _, s := range f.All() {
		if s.Err != nil {
			shown.WriteString(s.Err.Error() + "\n")
		}
	}
	if strings.Contains(shown.String(), secret) || strings.Contains(shown.String(), query) {
		t.Errorf("a secret was shown:\n%s", shown.String())
	}
	if want := "http://***@" + u.Host + "/routes?***"; !strings.Contains(shown.String(), want) {
		t.Errorf("%s is not shown:\n%s", want, shown.String())
	}
}

func TestBadSettings(t *testing.T) {
	for _, endpoint := range []string{"", "routes.json", "ftp://h/x", "http://", "http://user:hunter2@h:port/", "://hunter2"} {
		_, err := New(endpoint, time.Second, time.Second, slog.New(slog.DiscardHandler))
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("New(%q): %v", endpoint, err)
		}
	}
	if _, err := New("http://h/", 0, time.Second, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("an interval of 0 was accepted")
	}
}

// The port that a poll leaves from may be claimed by a service. Another
// program's connection may share a port, so some may be refused, but not all.
// Each try has a server of its own: those to the same one leave from ports that
// lie close together, and a program that holds many holds them all.
func TestSourcePortCanBeListenedOn(t *testing.T) {
	var err error
	for range 20 {
		from, tried := make(chan string), make(chan bool)
		e := serve(t, func(w http.ResponseWriter, r *http.Request) {
			select {
			case from <- r.RemoteAddr:
				<-tried
			case <-r.Context().Done():
			}
		})
		follow(t, e.URL, 10*time.Second)
		var l net.Listener
		l, err = net.Listen("tcp", <-from)
		close(tried)
		if err == nil {
			l.Close()
			return
		}
	}
	t.Fatal(err)
}

func TestJitter(t *testing.T) {
	for _, d := range []time.Duration{1, time.Millisecond, time.Second} {
		for range 100 {
			if j := jitter(d); j < d*94/100 || j > d*106/100 || j <= 0 {
				t.Fatalf("jitter(%s) = %s", d, j)
			}
		}
	}
}
