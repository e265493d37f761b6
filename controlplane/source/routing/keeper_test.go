package routing

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dill/controlplane/source"
)

// The whole life of a document, each step with what it sends and logs.
func TestKeeper(t *testing.T) {
	const (
		a = `{"services": [{"name": "a", "listener": "local:1", "backends": "10.0.0.1:1"}]}`
		b = `{"services": [{"name": "b", "listener": "local:1", "backends": "10.0.0.1:1"}]}`
	)
	synctest.Test(t, func(t *testing.T) {
		var sent []source.Snapshot
		sink := func(s source.Snapshot) { sent = append(sent, s) }
		var log strings.Builder
		k := NewKeeper("test", "document x", slog.New(slog.NewTextHandler(&log, nil)))

		start := time.Now()
		take := func(data string) func() error {
			return func() error { return k.Take(JSON, []byte(data), sink) }
		}
		fail := func(text string) func() error {
			return func() error { k.Fail(errors.New(text), sink); return nil }
		}
		for _, step := range []struct {
			name  string
			do    func() error
			err   bool   // do returns one
			sends string // what show writes of the snapshot, "" = none
			stale time.Duration
			logs  string
		}{
			{"away at first", fail("away"), false, "?! [] document x: away", 0, "waiting for a good one"},
			{"still away", fail("away"), false, "", 0, ""},
			{"broken", take("{"), true, "", 0, ""},
			{"first good one", take(a), false, "[a]", 0, "routing document read"},
			{"the same", take(a), false, "", 0, ""},
			{"other text, same routes", take(a + " "), false, "", 0, ""},
			{"confirmed", func() error { k.Confirm(sink); return nil }, false, "", 0, ""},
			{"looked at", func() error { k.Again(); return nil }, false, "", 0, ""},
			{"away again", fail("away"), false, "! [a] document x: away", 7 * time.Second, "keeping the last good one"},
			{"for another reason", fail("broken"), false, "! [a] document x: broken", 7 * time.Second, "keeping the last good one"},
			{"back unchanged", take(a + " "), false, "[a]", 0, "changed=false"},
			{"away once more", fail("away"), false, "! [a] document x: away", 10 * time.Second, "keeping"},
			{"back with a change", take(b), false, "[b]", 0, "changed=true"},
			{"mistake in the document", take(`{"services": [], "c": 1}`), false, "[]", 0, "mistake in routing document"},
			{"mistake in an entry, which the refusal tells", take(`{"services": [{"name": "c"}]}`), false, "[c]", 0, "level=INFO msg=\"routing document read\" services=1 changed=true\n"},
		} {
			sent = nil
			log.Reset()
			if err := step.do(); (err != nil) != step.err {
				t.Errorf("%s: error %v", step.name, err)
			}
			got := ""
			if len(sent) > 0 {
				got = show1(sent[0])
			}
			if got != step.sends || len(sent) > 1 {
				t.Errorf("%s: sent %q, want %q", step.name, got, step.sends)
			}
			if step.stale > 0 && len(sent) == 1 {
				if since := sent[0].StaleSince.Sub(start); since != step.stale {
					t.Errorf("%s: stale since %s, want %s", step.name, since, step.stale)
				}
			}
			if got := log.String(); !strings.Contains(got, step.logs) || step.logs == "" && got != "" ||
				strings.Contains(got, "WARN") && strings.Contains(step.logs, "INFO") {
				t.Errorf("%s: logged %q, want %q", step.name, got, step.logs)
			}
			<-time.After(time.Second)
		}
	})
}

func show1(s source.Snapshot) string {
	var b strings.Builder
	if !s.Synced {
		b.WriteString("?")
	}
	if s.Err != nil {
		b.WriteString("!")
	}
	if b.Len() > 0 {
		b.WriteString(" ")
	}
	b.WriteString("[")
	for _, svc := range s.Services {
		b.WriteString(svc.Name)
	}
	b.WriteString("]")
	if s.Err != nil {
		b.WriteString(" " + s.Err.Error())
	}
	return b.String()
}

func TestManyProblemsAreLoggedByNumber(t *testing.T) {
	var log strings.Builder
	logProblems(slog.New(slog.NewTextHandler(&log, nil)), slices.Repeat([]Problem{{Entry: -1}}, 1000))
	if lines := strings.Count(log.String(), "\n"); lines != 21 || !strings.Contains(log.String(), "dropped=980") {
		t.Errorf("%d lines, want 21:\n%s", lines, log.String())
	}
}
