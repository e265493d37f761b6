package nomad

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// fake answers like Nomad where a real one cannot be brought to misbehave.
type fake struct {
	*httptest.Server

	mu       sync.Mutex
	index    uint64
	services map[string][]registration
	moved    chan struct{}                                     // closed and replaced when anything changes
	instead  func(w http.ResponseWriter, r *http.Request) bool // nil, or answers and returns true
	asked    map[string]int                                    // requests by path
	conns    int
	connsMax int
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{index: 10, services: make(map[string][]registration), moved: make(chan struct{}), asked: make(map[string]int)}
	f.Server = httptest.NewUnstartedServer(f)
	f.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		f.mu.Lock()
		defer f.mu.Unlock()
		switch state {
		case http.StateNew:
			f.conns++
			f.connsMax = max(f.connsMax, f.conns)
		case http.StateClosed, http.StateHijacked:
			f.conns--
		}
	}
	f.Start()
	t.Cleanup(f.Close)
	return f
}

// change alters the state under its lock, and wakes whoever waits.
func (f *fake) change(alter func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.index++
	alter()
	close(f.moved)
	f.moved = make(chan struct{})
}

// set registers n instances of a service, none to remove it.
func (f *fake) set(name string, n int) {
	f.change(func() {
		delete(f.services, name)
		for i := range n {
			f.services[name] = append(f.services[name], registration{
				ID: fmt.Sprintf("%s-%d", name, i), Address: "127.0.0.1", Port: 20000 + i, CreateIndex: 5,
				Tags: []string{"dill", "dill.listener=local:8080", " dill.weight=2", "other"},
			})
		}
	})
}

func (f *fake) misbehave(instead func(w http.ResponseWriter, r *http.Request) bool) {
	f.change(func() { f.instead = instead })
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.asked[r.URL.Path]++
	f.mu.Unlock()
	wait, _ := time.ParseDuration(r.URL.Query().Get("wait"))
	min, _ := strconv.ParseUint(r.URL.Query().Get("index"), 10, 64)
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	for {
		f.mu.Lock()
		index, moved, instead, answer := f.index, f.moved, f.instead, f.answer(r)
		f.mu.Unlock()
		if instead != nil && instead(w, r) {
			return
		}
		if min > 0 && index == min {
			select {
			case <-moved:
				continue
			case <-timeout.C:
			case <-r.Context().Done():
				return
			}
		}
		w.Header().Set("X-Nomad-Index", strconv.FormatUint(index, 10))
		w.Header().Set("X-Nomad-KnownLeader", "true")
		w.Write(answer)
		return
	}
}

// answer is the body. f.mu is held.
func (f *fake) answer(r *http.Request) []byte {
	name, ofOne := strings.CutPrefix(r.URL.Path, "/v1/service/")
	var v any
	if ofOne {
		v = f.services[name]
		if f.services[name] == nil {
			v = []registration{}
		}
	} else {
		all := []any{}
		var stubs []any
		for name, list := range f.services {
			stubs = append(stubs, map[string]any{"ServiceName": name, "Tags": list[0].Tags})
		}
		if len(stubs) > 0 {
			all = append(all, map[string]any{"Namespace": "default", "Services": stubs})
		}
		v = all
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func respond(code int, header, body string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		if k, v, ok := strings.Cut(header, ": "); ok {
			w.Header().Set(k, v)
		}
		w.WriteHeader(code)
		fmt.Fprint(w, body)
		return true
	}
}
