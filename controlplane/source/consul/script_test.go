package consul

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dill/controlplane/source"
)

func TestLogOfALongOutage(t *testing.T) {
	scripted(t, Config{}, func(f *fake) { f.down = true }, func(t *testing.T, f *fake, o *observer) {
		time.Sleep(10 * time.Minute)
		lines := o.log.matching("consul is not current")
		if len(lines) != 10 {
			t.Errorf("%d lines in ten minutes", len(lines))
		}
		if last := lines[len(lines)-1]; !strings.Contains(last, "dropped=") {
			t.Errorf("the last line does not say how many were dropped: %s", last)
		}
		_, dialed := f.history()
		for i := range dialed[1:] {
			if gap := dialed[i+1].Sub(dialed[i]); gap > maxBackoff {
				t.Fatalf("%v between two attempts", gap)
			}
		}
		if len(dialed) > 600 {
			t.Errorf("%d attempts in ten minutes", len(dialed))
		}
		f.do(func() { f.down = false })
		f.set("web", entry("web", "web-1", 80))
		time.Sleep(maxBackoff)
		synctest.Wait()
		if s, _ := o.last(); !sized(1)(s) {
			t.Errorf("after it came back: %s", show(s))
		}
		if got := o.log.matching("outage=10m"); len(got) != 1 {
			t.Errorf("%d lines tell the length of the outage:\n%s", len(got), o.log)
		}
	})
}

func TestNothingChangesWithoutAChange(t *testing.T) {
	scripted(t, Config{}, func(f *fake) { f.set("web", entry("web", "web-1", 80)) }, func(t *testing.T, f *fake, o *observer) {
		synctest.Wait()
		n := o.count()
		time.Sleep(10 * time.Minute)
		f.do(func() { f.index++ }) // something that is nothing to dill
		synctest.Wait()
		if got := o.since(n); len(got) != 0 {
			t.Errorf("%d snapshots: %s", len(got), show(got[0]))
		}
		// Two queries every 40 s, and a few to begin with.
		if seen, _ := f.history(); len(seen) > 2*15+8 {
			t.Errorf("%d requests in ten minutes", len(seen))
		}
	})
}

func TestIndexThatWentBack(t *testing.T) {
	scripted(t, Config{}, func(f *fake) { f.set("web", entry("web", "web-1", 80)) }, func(t *testing.T, f *fake, o *observer) {
		synctest.Wait()
		f.do(func() { f.index = 3; clear(f.services) })
		synctest.Wait()
		time.Sleep(time.Second)
		s, _ := o.last()
		if !current(s) || !s.Suspect || len(s.Services) != 0 {
			t.Errorf("of another history: %s", show(s))
		}
		f.set("web", entry("web", "web-1", 81))
		time.Sleep(time.Second)
		if s, _ := o.last(); len(s.Services) != 1 || s.Services[0].Instances[0].Port != 81 {
			t.Errorf("the new history does not go on: %s", show(s))
		}
		time.Sleep(doubt + housekeeping)
		if s, _ := o.last(); s.Suspect {
			t.Error("still suspect long after")
		}
	})
}

// TestLetGoWithoutAnswer is how a server treats who waits when it is restored
// from a snapshot: at once, with the index that was waited from.
func TestLetGoWithoutAnswer(t *testing.T) {
	scripted(t, Config{}, func(f *fake) { f.set("web", entry("web", "web-1", 80)) }, func(t *testing.T, f *fake, o *observer) {
		synctest.Wait()
		f.do(func() {
			old := fmt.Sprint(f.index)
			f.index = 5
			f.services["web"][0].Service.Port = 81
			f.answer = func(w http.ResponseWriter, r *http.Request) bool {
				if r.FormValue("index") != old {
					return false
				}
				http.Error(w, "unexpected wait", http.StatusTeapot)
				return true
			}
		})
		time.Sleep(maxBackoff)
		synctest.Wait()
		if s, _ := o.last(); len(s.Services) != 1 || s.Services[0].Instances[0].Port != 81 || !s.Suspect {
			t.Errorf("after the restore: %s", show(s))
		}
	})
}

func TestHostileAnswersTakeNothingAway(t *testing.T) {
	status := func(code int, text string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { http.Error(w, text, code) }
	}
	body := func(text string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { respond(w, 1000, text) }
	}
	tests := []struct {
		name   string
		answer func(http.ResponseWriter)
		err    string
	}{
		{"no leader", status(500, "No cluster leader"), "consul answers 500: No cluster leader"},
		{"too many", status(429, "Your IP is issuing too many concurrent connections"), "consul answers 429"},
		{"unavailable", status(503, "<html>\x1b[31mGateway\r\n"+strings.Repeat("x", 5000)), "consul answers 503: <html> [31mGateway"},
		{"redirect", func(w http.ResponseWriter) { w.Header().Set("Location", "/elsewhere"); w.WriteHeader(302) }, "consul answers 302"},
		{"forbidden", status(403, "Permission denied"), "the token needs service:read"},
		{"truncated", body(`{"web":["dil`), "unexpected EOF"},
		{"truncated list", body(`[{"Node":{"Node":"n1"},"Serv`), "unexpected EOF"},
		{"nothing", body(``), "EOF"},
		{"null", body(`null`), "consul's answer is no"},
		{"html", body(`<html>`), "invalid character"},
		{"other types", body(`"web"`), "cannot unmarshal string"},
		{"holes", body(`[null]`), ""},
		{"no node", body(`[{"Service":{"ID":"x"}}]`), ""},
		{"no check", body(`[{"Node":{},"Service":{},"Checks":[null]}]`), ""},
		{"a duration that is none", body(`[{"Node":{},"Service":{},"Checks":[{"Definition":{"IntervalDuration":"x"}}]}]`), ""},
		{"cut off", func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "1000")
			respond(w, 1000, `{"web":`)
		}, "unexpected EOF"},
	}
	for _, at := range []string{"/v1/catalog/services", "/v1/health/service/web"} {
		for _, test := range tests {
			t.Run(strings.TrimPrefix(at, "/v1/")+"/"+test.name, func(t *testing.T) {
				scripted(t, Config{}, func(f *fake) { f.set("web", entry("web", "web-1", 80)) }, func(t *testing.T, f *fake, o *observer) {
					synctest.Wait()
					if s, _ := o.last(); !sized(1)(s) {
						t.Fatalf("at first: %s", show(s))
					}
					n := o.count()
					f.do(func() {
						f.index++
						f.answer = func(w http.ResponseWriter, r *http.Request) bool {
							if r.URL.Path != at {
								return false
							}
							test.answer(w)
							return true
						}
					})
					time.Sleep(30 * time.Second)
					s, _ := o.last()
					why := s.Err // of the catalog it is the source's
					if at != "/v1/catalog/services" && s.Err == nil && len(s.Stale) == 1 && s.Stale[0].Service == "web" {
						why = s.Stale[0].Err
					}
					if why == nil || !strings.Contains(why.Error(), test.err) || len(why.Error()) > 500 {
						t.Errorf("error is %v, want %q in it", why, test.err)
					}
					never(t, "it is gone", o.since(n), func(s source.Snapshot) bool { return len(s.Services) != 1 })
					if got := f.requests(""); got > 100 {
						t.Errorf("%d requests in half a minute", got)
					}
					f.do(func() { f.answer = nil })
					f.set("web", entry("web", "web-1", 81))
					time.Sleep(maxBackoff + time.Second)
					if s, _ := o.last(); !sized(1)(s) || s.Services[0].Instances[0].Port != 81 {
						t.Errorf("afterwards: %s", show(s))
					}
				})
			})
		}
	}
}

func TestCatalogThatIsSuddenlyEmpty(t *testing.T) {
	two := func(f *fake) {
		f.set("api", entry("api", "api-1", 80))
		f.set("web", entry("web", "web-1", 80))
	}
	t.Run("by mistake", func(t *testing.T) {
		scripted(t, Config{}, two, func(t *testing.T, f *fake, o *observer) {
			synctest.Wait()
			n := o.count()
			f.do(func() {
				f.index++
				f.answer = func(w http.ResponseWriter, r *http.Request) bool {
					return r.URL.Path == "/v1/catalog/services" && !r.URL.Query().Has("consistent") && respond(w, 1000, `{}`)
				}
			})
			time.Sleep(time.Minute)
			never(t, "it was believed", o.since(n), func(s source.Snapshot) bool { return len(s.Services) != 2 })
			if told := o.log.matching("not believed"); len(told) != 1 {
				t.Errorf("it is told %d times in a minute, want once: %v", len(told), told)
			}
		})
	})
	t.Run("truly", func(t *testing.T) {
		scripted(t, Config{}, two, func(t *testing.T, f *fake, o *observer) {
			synctest.Wait()
			time.Sleep(time.Second)
			f.do(func() { f.index++; clear(f.services) })
			synctest.Wait()
			if s, _ := o.last(); !sized(0)(s) || s.Suspect {
				t.Errorf("snapshot is %s", show(s))
			}
		})
	})
}

func TestServiceWithoutInstances(t *testing.T) {
	scripted(t, Config{}, func(f *fake) { f.set("web", entry("web", "web-1", 80)) }, func(t *testing.T, f *fake, o *observer) {
		synctest.Wait()
		n := o.count()
		empty := func(unless string) {
			f.do(func() {
				f.index++
				f.answer = func(w http.ResponseWriter, r *http.Request) bool {
					return strings.HasSuffix(r.URL.Path, "/web") && !r.URL.Query().Has(unless) && respond(w, 1000, `[]`)
				}
			})
		}
		empty("consistent")
		time.Sleep(5 * time.Second)
		never(t, "it was believed", o.since(n), func(s source.Snapshot) bool { return len(s.Services) != 1 })
		empty("nothing")
		time.Sleep(5 * time.Second)
		if s, _ := o.last(); !sized(0)(s) {
			t.Errorf("although a quorum says so: %s", show(s))
		}
	})
}

// silence makes the fake swallow every request from now on.
func (f *fake) silence() {
	f.do(func() {
		f.answer = func(_ http.ResponseWriter, r *http.Request) bool {
			<-r.Context().Done()
			return true
		}
	})
}

func TestDeadlineOfABlockingQuery(t *testing.T) {
	scripted(t, Config{Wait: 16 * time.Second}, func(f *fake) { f.set("web", entry("web", "web-1", 80)) }, func(t *testing.T, f *fake, o *observer) {
		synctest.Wait()
		f.silence()
		// The queries under way come back after 16 s, and those after them do
		// not: they are given up after 16 s · 17/16 + 7 s.
		time.Sleep(16*time.Second + 23*time.Second)
		if s, _ := o.last(); s.Err != nil {
			t.Errorf("given up too early: %v", s.Err)
		}
		time.Sleep(2 * time.Second)
		s, _ := o.last()
		if !failed("does not answer")(s) || len(s.Services) != 1 {
			t.Errorf("not given up: %s", show(s))
		}
		if c := o.Counters(); c.Connections > 1 {
			t.Errorf("%d connections are still held", c.Connections)
		}
	})
}

func TestHealingTakesFiveSecondsAtMost(t *testing.T) {
	scripted(t, Config{}, func(f *fake) { f.set("web", entry("web", "web-1", 80)) }, func(t *testing.T, f *fake, o *observer) {
		synctest.Wait()
		for i := range 50 {
			f.silence()
			f.set("web", entry("web", "web-1", 100+i))
			time.Sleep(time.Minute)
			if s, _ := o.last(); s.Err == nil {
				t.Fatal("not noticed within a minute")
			}
			time.Sleep(time.Duration(i) * 97 * time.Millisecond)
			f.do(func() { f.answer = nil }) // what is under way stays lost
			time.Sleep(5 * time.Second)
			synctest.Wait()
			if s, _ := o.last(); !current(s) || s.Services[0].Instances[0].Port != 100+i {
				t.Fatalf("healing %d: %s", i, show(s))
			}
		}
	})
}

func TestPacing(t *testing.T) {
	scripted(t, Config{}, func(f *fake) { f.set("web", entry("web", "web-1", 80)) }, func(t *testing.T, f *fake, o *observer) {
		synctest.Wait()
		time.Sleep(time.Second)
		before, snapshots := f.requests("catalog"), o.count()
		for i := range 1000 { // ten seconds, a change every 10 ms
			f.set("web", entry("web", "web-1", 1000+i))
			time.Sleep(10 * time.Millisecond)
		}
		if got := f.requests("catalog") - before; got > 300 {
			t.Errorf("%d catalog queries for 1000 changes in 10 s", got)
		}
		if got := o.count() - snapshots; got > 300 {
			t.Errorf("%d snapshots", got)
		}
		time.Sleep(maxPause)
		if s, _ := o.last(); s.Services[0].Instances[0].Port != 1999 {
			t.Errorf("the last change is not there: %s", show(s))
		}
		time.Sleep(2 * quiet)
		f.set("web", entry("web", "web-1", 80))
		synctest.Wait() // and no time passes
		if s, _ := o.last(); s.Services[0].Instances[0].Port != 80 {
			t.Error("a lone change is delayed")
		}
	})
}

func TestServerThatNeverWaits(t *testing.T) {
	answer := func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/v1/catalog/services" {
			_, _ = w.Write([]byte(`{}`)) // and no index
			return true
		}
		return false
	}
	scripted(t, Config{}, func(f *fake) { f.answer = answer }, func(t *testing.T, f *fake, o *observer) {
		time.Sleep(time.Minute)
		if got := f.requests(""); got > 100 {
			t.Errorf("%d requests in a minute", got)
		}
		if s, _ := o.last(); !current(s) || s.Suspect {
			t.Errorf("snapshot is %s", show(s))
		}
	})
}

func TestServerThatLagsBehind(t *testing.T) {
	scripted(t, Config{Consistency: Stale}, func(f *fake) { f.set("web", entry("web", "web-1", 80)) }, func(t *testing.T, f *fake, o *observer) {
		synctest.Wait()
		f.do(func() {
			f.index++
			f.answer = func(w http.ResponseWriter, r *http.Request) bool {
				w.Header().Set("X-Consul-LastContact", "45000")
				return false
			}
		})
		time.Sleep(DefaultWait * 9 / 8)
		if s, _ := o.last(); !failed("not heard from a leader for 45s")(s) || len(s.Services) != 1 {
			t.Errorf("snapshot is %s", show(s))
		}
	})
}

func TestHowItAsks(t *testing.T) {
	for consistency, want := range map[Consistency]string{Default: "", Stale: "stale", Consistent: "consistent", Leader: "leader"} {
		cfg := Config{Consistency: consistency, Datacenter: "east", Namespace: "team", Partition: "part", Token: "secret", Wait: 20 * time.Second}
		scripted(t, cfg, func(f *fake) { f.set("a b/ü?", entry("a b/ü?", "x", 80)) }, func(t *testing.T, f *fake, o *observer) {
			synctest.Wait()
			seen, _ := f.history()
			for _, r := range seen {
				q := r.URL.Query()
				if q.Get("dc") != "east" || q.Get("ns") != "team" || q.Get("partition") != "part" || r.Header.Get("X-Consul-Token") != "secret" {
					t.Errorf("asked %s with token %q", r.URL, r.Header.Get("X-Consul-Token"))
				}
				for _, mode := range []string{"stale", "consistent", "leader"} {
					if q.Has(mode) != (mode == want) {
						t.Errorf("asked %s in mode %q", r.URL, consistency)
					}
				}
				if q.Has("index") && q.Get("wait") != "20000ms" || r.URL.Path == "/v1/catalog/services" && q.Get("filter") != tagged {
					t.Errorf("asked %s", r.URL)
				}
			}
			if s, _ := o.last(); !sized(1)(s) {
				t.Errorf("a name with odd characters: %s", show(s))
			}
		})
	}
}
