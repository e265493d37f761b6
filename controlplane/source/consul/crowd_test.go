package consul

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// saysOfConnections returns the lines that tell of a shortage of connections.
func (o *observer) saysOfConnections() []string {
	return append(o.log.matching("fewer connections"), o.log.matching("fewer are held")...)
}

// An agent that is killed hangs up on the connections that were just made, which
// is nobody's word about how many it allows.
func TestKilledAgentIsNotShortOfConnections(t *testing.T) {
	scripted(t, Config{}, withWeb, func(t *testing.T, f *fake, o *observer) {
		synctest.Wait()
		f.do(func() { f.allows = 1 })
		f.set("api", entry("api", "api-1", 80)) // needs a connection
		synctest.Wait()
		time.Sleep(firstBackoff / 4)
		f.kill()
		time.Sleep(time.Minute)
		synctest.Wait()
		if s, _ := o.last(); !failed("connection refused")(s) || len(instancesOf(s, "web")) != 1 {
			t.Errorf("snapshot is %s", show(s))
		}
		if lines := o.saysOfConnections(); len(lines) > 0 {
			t.Errorf("the log says %q", lines)
		}
	})
}

// One that goes on hanging up on new connections, while those it has work, is
// asked over fewer, and not said to have said anything.
func TestHangUpsThatGoOn(t *testing.T) {
	const n = 12
	few := func(f *fake) {
		f.allows = 6
		for i := range n {
			f.set(serviceName(i), entry(serviceName(i), "one", 80))
		}
	}
	scripted(t, Config{}, few, func(t *testing.T, f *fake, o *observer) {
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if s, _ := o.last(); !sized(n)(s) {
			t.Errorf("snapshot is %s", show(s))
		}
		if len(o.log.matching("hangs up on new connections")) == 0 || len(o.log.matching("allows fewer connections")) > 0 {
			t.Errorf("the log says %q", o.saysOfConnections())
		}
		if c := o.Counters(); c.Sessions != 1 {
			t.Errorf("%d sessions", c.Sessions)
		}
	})
}

// Status 429 is also what a limit on the rate of requests answers.
func TestLimitedRateIsNotALimitOfConnections(t *testing.T) {
	limit := func(f *fake) {
		withWeb(f)
		f.answer = func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, "/web") {
				return false
			}
			http.Error(w, "rate limit exceeded, try again later or against a different server", http.StatusTooManyRequests)
			return true
		}
	}
	scripted(t, Config{}, limit, func(t *testing.T, f *fake, o *observer) {
		time.Sleep(time.Minute)
		synctest.Wait()
		if s, _ := o.last(); !current(s) || len(s.Stale) != 1 || !strings.Contains(s.Stale[0].Err.Error(), "429: rate limit exceeded") {
			t.Errorf("snapshot is %s, stale %v", show(s), s.Stale)
		}
		if lines := o.saysOfConnections(); len(lines) > 0 {
			t.Errorf("the log says %q", lines)
		}
	})
}
