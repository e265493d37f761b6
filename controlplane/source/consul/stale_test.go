package consul

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/consul/api"

	"dill/controlplane/source"
)

// Services that cannot be read stop nothing, however many they are, and whether
// they ever could: what the catalog says of the others is true.
func TestServicesThatCannotBeReadStopNoOther(t *testing.T) {
	unreadable := func(f *fake, names ...string) {
		f.do(func() {
			f.answer = func(w http.ResponseWriter, r *http.Request) bool {
				name, one := strings.CutPrefix(r.URL.Path, "/v1/health/service/")
				return one && slices.Contains(names, name) && respond(w, 1000, `[{]`)
			}
		})
	}
	start := func(f *fake) {
		for _, name := range []string{"api", "db", "web"} {
			f.set(name, entry(name, name+"-1", 80))
		}
	}
	goes := func(t *testing.T, f *fake, o *observer, services, stale int) {
		t.Helper()
		f.set("db")
		time.Sleep(time.Second)
		synctest.Wait()
		if s, _ := o.last(); !sized(services)(s) || len(s.Stale) != stale {
			t.Errorf("snapshot is %s, stale are %v", show(s), s.Stale)
		}
		if len(o.log.matching("service is stale")) == 0 {
			t.Error("nobody is told")
		}
	}
	t.Run("one of three", func(t *testing.T) {
		scripted(t, Config{}, start, func(t *testing.T, f *fake, o *observer) {
			synctest.Wait()
			unreadable(f, "api")
			goes(t, f, o, 2, 1)
		})
	})
	t.Run("most", func(t *testing.T) {
		scripted(t, Config{}, start, func(t *testing.T, f *fake, o *observer) {
			synctest.Wait()
			unreadable(f, "api", "web")
			goes(t, f, o, 2, 2)
		})
	})
	t.Run("most from the start", func(t *testing.T) {
		prepare := func(f *fake) { start(f); unreadable(f, "api", "web") }
		scripted(t, Config{}, prepare, func(t *testing.T, f *fake, o *observer) {
			time.Sleep(time.Second)
			synctest.Wait()
			if s, _ := o.last(); !sized(1)(s) || len(s.Stale) != 2 || !s.Stale[0].Since.IsZero() {
				t.Errorf("at first: %s, stale are %v", show(s), s.Stale)
			}
			goes(t, f, o, 0, 2)
		})
	})
	t.Run("a consistent read", func(t *testing.T) {
		scripted(t, Config{}, start, func(t *testing.T, f *fake, o *observer) {
			synctest.Wait()
			unreadable(f, "api")
			c, err := o.Confirm(t.Context())
			if err != nil || !c.Synced || len(c.Services) != 2 || len(c.Stale) != 1 || c.Stale[0].Service != "api" {
				t.Errorf("confirmed is %s, stale are %v, error %v", show(c), c.Stale, err)
			}
		})
	})
}

// A service whose questions get no answer, or one that breaks the connection, is
// stale by itself: whoever asks the others gets answers. It may take one new set
// of connections to find that out.
func TestServiceThatBreaksConnectionsStopsNoOther(t *testing.T) {
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	for title, bad := range map[string]http.HandlerFunc{
		"no answer": hang,
		"half an answer": func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte("["))
			w.(http.Flusher).Flush()
			hang(w, r)
		},
		"no HTTP": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Long", strings.Repeat("x", 100<<10))
			respond(w, 1000, `[]`)
		},
	} {
		for tier, most := range map[string]int{"watched": 0, "beyond": reserve + 3} {
			t.Run(title+", "+tier, func(t *testing.T) {
				start := func(f *fake) {
					for _, name := range []string{"api", "db", "web"} {
						f.set(name, entry(name, name+"-1", 80))
					}
				}
				scripted(t, Config{MaxConnections: most}, start, func(t *testing.T, f *fake, o *observer) {
					synctest.Wait()
					f.do(func() {
						f.index++
						f.answer = func(w http.ResponseWriter, r *http.Request) bool {
							ours := strings.HasSuffix(r.URL.Path, "/service/web")
							if ours {
								bad(w, r)
							}
							return ours
						}
					})
					time.Sleep(DefaultWait + time.Minute)
					n := o.count()
					f.set("api")
					time.Sleep(time.Minute)
					synctest.Wait()
					if s, _ := o.last(); !sized(2)(s) || s.Suspect || len(s.Stale) != 1 || s.Stale[0].Service != "web" {
						t.Errorf("snapshot is %s, stale are %v", show(s), s.Stale)
					}
					never(t, "the source is stale", o.since(n), func(s source.Snapshot) bool { return s.Err != nil })
					ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
					defer cancel()
					c, err := o.Confirm(ctx)
					if err != nil || len(c.Services) != 1 || len(c.Stale) != 1 || c.Stale[0].Service != "web" {
						t.Errorf("confirmed is %s, stale are %v, error %v", show(c), c.Stale, err)
					}
				})
			})
		}
	}
}

// However many services Consul does not answer for, a new one is read at once.
func TestSilentServicesDelayNoOther(t *testing.T) {
	for tier, most := range map[string]int{"watched": 0, "beyond": reserve + 4} {
		t.Run(tier, func(t *testing.T) {
			start := func(f *fake) {
				for i := range 40 {
					name := fmt.Sprintf("silent%d", i)
					f.set(name, entry(name, name+"-1", 80))
				}
				f.answer = func(_ http.ResponseWriter, r *http.Request) bool {
					silent := strings.Contains(r.URL.Path, "/service/silent")
					if silent {
						<-r.Context().Done()
					}
					return silent
				}
			}
			scripted(t, Config{MaxConnections: most}, start, func(t *testing.T, f *fake, o *observer) {
				time.Sleep(3 * time.Minute)
				for i := range 10 {
					name := fmt.Sprintf("web%d", i)
					f.set(name, entry(name, name+"-1", 80))
					time.Sleep(time.Second)
					synctest.Wait()
					if s, _ := o.last(); s.Err != nil || len(instancesOf(s, name)) != 1 {
						t.Errorf("%s after a second: %s", name, show(s))
					}
					time.Sleep(7 * time.Second)
				}
			})
		})
	}
}

// Without the checks the services beyond the budget are not current; the others
// are, and what is gone from the catalog goes.
func TestChecksThatCannotBeReadMakeOnlyTheTierStale(t *testing.T) {
	start := func(f *fake) {
		for _, name := range []string{"api", "db", "web"} {
			f.set(name, entry(name, name+"-1", 80))
		}
		f.answer = func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/v1/health/state/any" {
				return false
			}
			http.Error(w, "no", http.StatusInternalServerError)
			return true
		}
	}
	scripted(t, Config{MaxConnections: reserve + 3}, start, func(t *testing.T, f *fake, o *observer) {
		time.Sleep(time.Second)
		synctest.Wait()
		if s, _ := o.last(); !sized(3)(s) || len(s.Stale) != 2 {
			t.Errorf("snapshot is %s, stale are %v", show(s), s.Stale)
		}
		f.set("api")
		time.Sleep(time.Second)
		synctest.Wait()
		if s, _ := o.last(); !sized(2)(s) || len(s.Stale) != 1 {
			t.Errorf("afterwards: %s, stale are %v", show(s), s.Stale)
		}
	})
}

// A source begins with what another one knew: it is reported until it was read,
// or its absence proven.
func TestInheritedServices(t *testing.T) {
	before := func(names ...string) []source.Service {
		var all []source.Service
		for _, name := range names {
			s, _ := read(name, []*api.ServiceEntry{entry(name, name+"-1", 80)})
			all = append(all, s)
		}
		return all
	}
	for title, test := range map[string]struct {
		answer func(http.ResponseWriter, *http.Request) bool
		left   int
		stale  int
	}{
		"gone": {nil, 1, 0},
		"unreadable": {func(w http.ResponseWriter, r *http.Request) bool {
			return strings.HasSuffix(r.URL.Path, "/web") && respond(w, 1000, `[{]`)
		}, 1, 1},
		"hidden, and gone": {func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/v1/catalog/services" {
				w.Header().Set("X-Consul-Results-Filtered-By-ACLs", "true")
			}
			return false
		}, 1, 0},
		"hidden": {func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/v1/catalog/services" || strings.HasSuffix(r.URL.Path, "/api") || strings.HasSuffix(r.URL.Path, "/db") {
				w.Header().Set("X-Consul-Results-Filtered-By-ACLs", "true")
			}
			return false
		}, 3, 2},
		"catalog unreadable": {func(w http.ResponseWriter, r *http.Request) bool {
			http.Error(w, "no", http.StatusTooManyRequests)
			return true
		}, 3, 0},
	} {
		t.Run(title, func(t *testing.T) {
			prepare := func(f *fake) {
				f.set("web", entry("web", "web-1", 80))
				f.answer = test.answer
			}
			inherit := func(s *Source) { s.Inherit(before("api", "db", "web")) }
			scripted(t, Config{Token: "some"}, prepare, func(t *testing.T, f *fake, o *observer) {
				time.Sleep(time.Second)
				synctest.Wait()
				s, _ := o.last()
				if len(s.Services) != test.left || len(s.Stale) != test.stale || s.Synced != (s.Err == nil) {
					t.Errorf("snapshot is %s, stale are %v", show(s), s.Stale)
				}
				never(t, "what could be read is missing", o.since(0), func(s source.Snapshot) bool { return len(instancesOf(s, "web")) != 1 })
			}, inherit)
		})
	}
}
