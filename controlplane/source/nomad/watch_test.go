package nomad

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dill/controlplane/source"
	"dill/controlplane/source/sourcetest"
)

func TestCursor(t *testing.T) {
	var c cursor
	for i, step := range []struct {
		got  uint64
		back bool
	}{{5, false}, {5, false}, {9, false}, {2, true}, {3, false}} {
		if back := c.took(step.got); back != step.back || c.index != step.got {
			t.Errorf("step %d: back %t, waits on %d; want %t, %d", i, back, c.index, step.back, step.got)
		}
	}
}

func TestPacer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pacer
		began, wakes := time.Now(), 0
		for time.Since(began) < 10*time.Second {
			d := p.wait()
			if wakes < burst && d > 0 {
				t.Fatalf("wake-up %d is delayed by %s", wakes, d)
			}
			if d > spacing {
				t.Fatalf("delayed by %s, want at most %s", d, spacing)
			}
			<-time.After(d + time.Millisecond)
			wakes++
		}
		if wakes > burst+10*rate+5 || wakes < 10*rate-5 {
			t.Errorf("%d wake-ups in 10 s, want about %d", wakes, burst+10*rate)
		}
		<-time.After(2 * time.Second)
		if d := p.wait(); d > 0 {
			t.Errorf("delayed by %s after a quiet time", d)
		}
	})
}

func TestBackoff(t *testing.T) {
	for failures := 1; failures < 100; failures++ {
		most := min(backoffMost, backoffFirst<<min(failures-1, 20))
		if d := backoff(failures); d < most/2 || d > most {
			t.Fatalf("after %d failures %s, want %s to %s", failures, d, most/2, most)
		}
	}
}

// FuzzAnswers holds whatever a server sends to what a Snapshot promises.
func FuzzAnswers(f *testing.F) {
	f.Add(`[{"Namespace":"default","Services":[{"ServiceName":"web","Tags":["dill"]}]}]`,
		`[{"ID":"a","Address":"10.0.0.1","Port":80,"Tags":["dill","dill.listener=local:80"],"CreateIndex":3},{"ID":"a"},{"AllocID":"b"}]`)
	f.Add(`[null,{"Services":[{}]}]`, `[null,{"Port":-1,"Tags":[""]}]`)
	f.Fuzz(func(t *testing.T, list, service string) {
		var l []listing
		if json.Unmarshal([]byte(list), &l) == nil {
			for k := range wanted(l) {
				if k.name == "" {
					t.Error("a service without a name")
				}
			}
		}
		var r []registration
		if json.Unmarshal([]byte(service), &r) != nil {
			return
		}
		s := serviceOf(key{"ns", "web"}, r, true)
		if s.Name != "ns/web" {
			t.Errorf("name %q", s.Name)
		}
		for i, in := range s.Instances {
			if i > 0 && s.Instances[i-1].ID >= in.ID {
				t.Errorf("instances are not sorted and unique: %q, %q", s.Instances[i-1].ID, in.ID)
			}
			if in.CreateIndex < s.CreateIndex && s.CreateIndex != 0 {
				t.Errorf("instance created at %d, before its service at %d", in.CreateIndex, s.CreateIndex)
			}
			if in.Health != source.Passing {
				t.Errorf("health %s", in.Health)
			}
			if slices.ContainsFunc(in.Tags, func(t string) bool { return t != "dill" && !strings.HasPrefix(t, "dill.") }) {
				t.Errorf("foreign tags in %q", in.Tags)
			}
		}
	})
}

func TestRequest(t *testing.T) {
	for address, prefix := range map[string]string{
		"http://n:4646": "", "http://n:4646/": "", "http://n:4646/ops/nomad": "/ops/nomad", "http://n:4646/ops/nomad/": "/ops/nomad",
	} {
		c, err := newClient(Options{Address: address, Wait: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{"web": "web", "a/b": "a%2Fb", ".": "%2E", "..": "%2E%2E", "50%": "50%25", "a b": "a%20b"} {
			u := c.request(t.Context(), query{path: []string{"service", name}}).URL
			if got := u.EscapedPath(); got != prefix+"/v1/service/"+want || u.Path != prefix+"/v1/service/"+name {
				t.Errorf("%q at %s is asked for by %s", name, address, got)
			}
		}
	}
}

// Nomad waits no longer than this, whatever it is asked for.
func TestWaitAboveNomadsLongest(t *testing.T) {
	log := new(sourcetest.Log)
	s := newSource(t, Options{Address: "http://n:4646", Wait: time.Hour}, log)
	if s.client.wait != maxWait || !strings.Contains(log.String(), "waits no longer") {
		t.Errorf("waits %v; log: %s", s.client.wait, log)
	}
}

func TestBracketedAddress(t *testing.T) {
	s := serviceOf(key{"default", "web"}, []registration{{ID: "a", Address: "[fd00::1]", Port: 80}}, false)
	if got := s.Instances[0].Host; got != "fd00::1" {
		t.Errorf("host is %q", got)
	}
}
