package compile

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"dill/controlplane/source"
	"dill/dataplane/route"
)

const claim5000 = "dill.listener=local:5000"

func TestOptions(t *testing.T) {
	l := only(t, compileAll(consul(svc("web", 1, inst(1, claim5000,
		"dill.strategy=least_conn", "dill.weight=7", "dill.connect_timeout=1500ms", "dill.idle_timeout=1h",
		"dill.max_connections=100", "dill.allow=10.0.0.0/8, 192.0.2.7,::ffff:172.16.0.0/108,10.1.0.0/16",
		"dill.proxy_protocol=v2", "dill.drain=45s", "dill.proxy=socks5://us%40er:p%3Ass@proxy.test:1080")))))
	b := l.Backends[0]
	l.Backends = nil
	wantL := &route.Listener{
		Addr: ap("127.0.0.1:5000"), Owner: "consul/web", Strategy: route.LeastConn, MaxConnections: 100,
		IdleTimeout: time.Hour, DrainTimeout: 45 * time.Second,
		Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.0.2.7/32")},
	}
	if !reflect.DeepEqual(l, wantL) {
		t.Errorf("listener %+v\nwant     %+v", l, wantL)
	}
	socks := *b.Socks
	b.Socks = nil
	if want := (route.Backend{
		Addr: ap("10.0.0.1:80"), Instance: "i1", Weight: 7, ConnectTimeout: 1500 * time.Millisecond, ProxyProtocol: 2,
	}); *b != want {
		t.Errorf("backend %+v\nwant    %+v", *b, want)
	}
	if want := (route.Socks{Addr: ap("10.9.0.9:1080"), User: "us@er", Password: "p:ss"}); socks != want {
		t.Errorf("proxy %s at %v", socks.User, socks.Addr)
	}
}

func TestOptionsThatSwitchOff(t *testing.T) {
	for _, v := range []string{"off", "0"} {
		r := compileAll(consul(svc("web", 1, inst(1, claim5000, "dill.idle_timeout="+v, "dill.drain="+v, "dill.max_connections=0"))))
		wantRefused(t, r)
		if l := only(t, r); l.IdleTimeout >= 0 || l.DrainTimeout != 0 || l.MaxConnections != 0 {
			t.Errorf("%s: idle %v, drain %v", v, l.IdleTimeout, l.DrainTimeout)
		}
	}
}

// TestOpenOptionsFallToTheDefault: a typing error must not close the port.
func TestOpenOptionsFallToTheDefault(t *testing.T) {
	for tag, reason := range map[string]string{
		"dill.strategy=fastest":            "want one of round_robin, least_conn, random, source_hash; the default holds",
		"dill.strategy=":                   "want one of",
		"dill.strategy":                    "has no value; want dill.strategy=…",
		"dill.weight=0":                    "from 1 to 65535",
		"dill.weight=65536":                "from 1 to 65535",
		"dill.weight=heavy":                "from 1 to 65535",
		"dill.connect_timeout=5":           "from 1ms to 5m; the default holds",
		"dill.connect_timeout=0s":          "a duration",
		"dill.connect_timeout=6m":          "a duration",
		"dill.connect_timeout=off":         "a duration",
		"dill.idle_timeout=-1s":            "from 1ms to 720h, or off",
		"dill.idle_timeout=1000h":          "a duration",
		"dill.drain=25h":                   "from 1ms to 24h, or off",
		"dill.max_connections=-1":          "a whole number",
		"dill.max_connections=1e3":         "a whole number",
		"dill.max_connections=99999999999": "a whole number",
		"dill.weight=5\x00":                "do not print",
		"dill.Weight=5":                    "tags are in lower case; want dill.weight; the default holds",
		"dill.wieght=5":                    "unknown tag",
		"dill.":                            "unknown tag",
		"dill.=":                           "unknown tag",
	} {
		r := compileAll(consul(svc("web", 1, inst(1, claim5000, tag))))
		l := only(t, r)
		if len(r.Refused) != 1 || !strings.Contains(r.Refused[0].Reason, reason) {
			t.Errorf("%q: refused %+v, want %q", tag, r.Refused, reason)
		}
		if l.Strategy != 0 || l.MaxConnections != 0 || l.IdleTimeout != 0 || l.DrainTimeout != 0 ||
			l.Backends[0].Weight != 1 || l.Backends[0].ConnectTimeout != 0 {
			t.Errorf("%q: not the default: %+v %+v", tag, l, l.Backends[0])
		}
	}
}

// TestWordsAreNotShown: a secret that stands where a word should, or under a key
// that nobody knows, is not for Peek; wrong numbers and durations are shown.
func TestWordsAreNotShown(t *testing.T) {
	for tag, claim := range map[string]string{
		"dill.strategy=s3cret":       "dill.strategy=…",
		"dill.proxy_protocol=s3cret": "dill.proxy_protocol=…",
		"dill.token=s3cret":          "dill.token=…",
		"dill.weight=70000":          "dill.weight=70000",
		"dill.drain=25h":             "dill.drain=25h",
	} {
		r := compileAll(consul(svc("web", 1, inst(1, claim5000, tag))))
		if len(r.Refused) != 1 || r.Refused[0].Claim != claim || strings.Contains(r.Refused[0].Reason, "s3cret") {
			t.Errorf("%q: refused %+v, want %q", tag, r.Refused, claim)
		}
	}
}

// TestNoSecretInAnyClaim: what stands behind another tag, behind a wrong
// separator, or where a host should is no more for Peek than a value is.
func TestNoSecretInAnyClaim(t *testing.T) {
	for tag, claim := range map[string]string{
		"dill.token:s3cret":                            "dill.token…",
		"dill.token s3cret":                            "dill.token…",
		"dill.strategy:s3cret":                         "dill.strategy…",
		"dill.proxy socks5:/me:s3c=ret@h":              "dill.proxy=…",
		"dill.listener=local:5001,dill.token=s3cret":   "dill.listener=local:5001,dill.token=…",
		"dill.listener=local:5001 Dill.Token s3cret":   "dill.listener=local:5001 Dill.Token…",
		"dill.listener=local:5001?token=s3cret":        "dill.listener=local:5001?token=***",
		"dill.proxy=socks5://me:s3cret10.0.0.9:1080":   "dill.proxy=***",
		"dill.proxy=socks5://me:s3cret:10.0.0.9:1080":  "dill.proxy=***",
		"dill.weight=3,dill.proxy=socks5://me:s3cret@": "dill.weight=***",
	} {
		r := compileAll(consul(svc("web", 1, inst(1, claim5000, tag))))
		if len(r.Refused) != 1 || r.Refused[0].Claim != claim || strings.Contains(r.Refused[0].Reason, "s3c") {
			t.Errorf("%q: refused %+v, want %q", tag, r.Refused, claim)
		}
	}
	for _, host := range []string{"http://h/?token=s3cret", "http://me:s3cret10.0.0.9:80", "http://me:s3cret@h"} {
		in := inst(1, claim5000)
		in.Host = host
		for _, f := range compileAll(consul(svc("web", 1, in))).Refused {
			if strings.Contains(f.Reason, "s3cret") {
				t.Errorf("%q: refused %+v", host, f)
			}
		}
	}
}

// TestClosedOptionThatIsNoTagOfItsOwn: protection that was asked for in a tag that
// cannot be read is protection that was asked for.
func TestClosedOptionThatIsNoTagOfItsOwn(t *testing.T) {
	for _, tag := range []string{
		"dill.allow:10.0.0.0/8", "dill.allow 10.0.0.0/8", "dill.allowed=10.0.0.0/8",
		"dill,dill.allow=10.0.0.0/8", "dill.listener=local:5001,dill.allow=10.0.0.0/8",
		"dill.weight=3,Dill.Allow=10.0.0.0/8", "dill.proxy:socks5://10.0.0.9:1080", "dill.proxyprotocol=v1",
	} {
		r := compileAll(consul(svc("web", 1, inst(1, claim5000, tag))))
		if len(r.Listeners) != 0 || len(r.Refused) != 1 || !strings.Contains(r.Refused[0].Reason, "not served without it") {
			t.Errorf("%q: %d listeners, refused %+v", tag, len(r.Listeners), r.Refused)
		}
	}
}

// TestClosedOptionsRefuseTheInstance: who asked for protection is not served
// without it, the others are.
func TestClosedOptionsRefuseTheInstance(t *testing.T) {
	for tag, reason := range map[string]string{
		"dill.allow=":                               "want address ranges",
		"dill.allow=10.0.0.0/33":                    "want address ranges",
		"dill.allow=10.0.0.0/8,":                    "want address ranges",
		"dill.allow=10.0.0.0/8;11.0.0.0/8":          "want address ranges",
		"dill.allow=everybody":                      "want address ranges",
		"dill.allow=::ffff:0:0/90":                  "want address ranges",
		"dill.allow=fe80::1%eth0":                   "want address ranges",
		"dill.allow":                                "has no value",
		"dill.allow=10.0.0.0/8\n":                   "do not print",
		"dill.allow=" + strings.Repeat("x", maxTag): "bytes long",
		"dill.proxy_protocol=v3":                    "want v1 or v2",
		"dill.proxy_protocol=":                      "want v1 or v2",
		"dill.proxy=":                               "want socks5://",
		"dill.proxy=http://10.0.0.1:1080":           "want socks5://",
		"dill.proxy=socks4://10.0.0.1":              "want socks5://",
		"dill.proxy=socks5://:1080":                 "want socks5://",
		"dill.proxy=socks5://10.0.0.1:0":            "want socks5://",
		"dill.proxy=socks5://10.0.0.1:99999":        "want socks5://",
		"dill.proxy=socks5://10.0.0.1:1080/x":       "want socks5://",
		"dill.proxy=socks5://10.0.0.1:1080?x":       "want socks5://",
		"dill.proxy=socks5://:pw@10.0.0.1:1080":     "user name before",
		"dill.proxy=socks5://" + strings.Repeat("u", 256) + "@10.0.0.1:1080": "at most 255 bytes",
		"dill.proxy=10.0.0.1:1080": "want socks5://",
	} {
		r := compileAll(consul(svc("web", 1, inst(1, claim5000, tag), inst(2, claim5000))))
		wantServed(t, r, "127.0.0.1:5000 consul/web i2")
		if len(r.Refused) != 1 || r.Refused[0].Instance != "i1" || !strings.Contains(r.Refused[0].Reason, reason) ||
			!strings.HasSuffix(r.Refused[0].Reason, "; the instance is not served without it") {
			t.Errorf("%q: refused %+v, want %q", tag, r.Refused, reason)
		}
		if l := only(t, r); l.Allow != nil {
			t.Errorf("%q: a refused instance restricts the others to %v", tag, l.Allow)
		}
		r = compileAll(consul(svc("web", 1, inst(1, claim5000, tag))))
		wantServed(t, r)
	}
}

func TestRepeatedOptions(t *testing.T) {
	r := compileAll(consul(svc("web", 1, inst(1, claim5000, "dill.weight=2", "dill.weight=2"))))
	wantRefused(t, r)
	if w := only(t, r).Backends[0].Weight; w != 2 {
		t.Errorf("weight %d", w)
	}
	r = compileAll(consul(svc("web", 1, inst(1, claim5000, "dill.weight=2", "dill.weight=3", "dill.weight=2"))))
	wantRefused(t, r, "consul/web i1|dill.weight=|given more than once with different values; the default holds")
	if w := only(t, r).Backends[0].Weight; w != 1 {
		t.Errorf("weight %d", w)
	}
	r = compileAll(consul(svc("web", 1, inst(1, claim5000, "dill.allow=10.0.0.0/8", "dill.allow=11.0.0.0/8"))))
	wantServed(t, r)
	// A second tag that cannot be read is not made up for by a good one.
	r = compileAll(consul(svc("web", 1, inst(1, claim5000, "dill.allow=10.0.0.0/8", "dill.allow=\x00"))))
	wantServed(t, r)
}

func TestCredentialsAreNeverShown(t *testing.T) {
	const user, password = "alice", "hunter2"
	for _, tag := range []string{
		"dill.proxy=socks5://alice:hunter2@10.0.0.9:99999", "dill.proxy=alice:hunter2@10.0.0.9:1", "dill.proxy=socks5:alice:hunter2",
		"dill.proxy=socks5://alice:hunter2", "dill.proxy=socks5://alice:hunter2@\x00", "dill.proxy=socks5://alice:hunter2@loop.test:1080",
		"dill.prox=socks5://alice:hunter2@10.0.0.9:1080", "dill.proxysocks5://alice:hunter2@10.0.0.9:1080",
		"dill.proxy alice:hunter2@10.0.0.9", "dill.listener=socks5://alice:hunter2@10.0.0.9:1080",
		"dill.listener=alice:hunter2@10.0.0.9:1080", "dill.weight=socks5://alice:hunter2", "dill.PROXY=socks5://alice:hunter2@10.0.0.9:1080",
		"dill.proxy=socks5://alice:hunter2@unknown.test:1080", "dill.proxy=socks5://alice:hunter2@127.0.0.1:5000",
		" dill.proxy=socks5://alice:hunter2@10.0.0.9:1080", "Dill.Proxy=socks5://alice:hunter2@10.0.0.9:1080",
		"dill.proxy =alice:hunter2@10.0.0.9:1080", "dill,dill.proxy=socks5://alice:hunter2@10.0.0.9:1080",
		"dill.listener=local:5001,dill.proxy=socks5://alice:hunter2@10.0.0.9:1080", "dill:socks5://alice:hunter2@10.0.0.9:1080",
		"dill.proxy=" + strings.Repeat("socks5://alice:hunter2@", 200),
	} {
		r := compileAll(consul(svc("web", 1, inst(1, claim5000, tag), inst(2, claim5000))))
		if len(r.Refused) == 0 {
			t.Errorf("%q: nothing refused", tag)
		}
		shown := fmt.Sprintf("%+v %+v %+v", r.Refused, r.Listeners, *r.Listeners[0].Backends[0])
		if strings.Contains(shown, user) || strings.Contains(shown, password) {
			t.Errorf("%q shows %s", tag, shown)
		}
	}
}

func TestWeights(t *testing.T) {
	for _, tt := range []struct {
		tag    string
		source int
		want   int
	}{
		{"", 0, 1}, {"", 5, 5}, {"dill.weight=3", 5, 3}, {"dill.weight=0", 5, 5}, {"", -1, 1}, {"", 1 << 20, 65535},
	} {
		in := with(inst(1, claim5000, tt.tag), func(i *source.Instance) { i.Weight = tt.source })
		if got := only(t, compileAll(consul(svc("web", 1, in)))).Backends[0].Weight; got != tt.want {
			t.Errorf("%q with %d from the source: weight %d, want %d", tt.tag, tt.source, got, tt.want)
		}
	}
}

// TestNewestInstanceDecides: options of the listener come from the instance
// with the highest CreateIndex, critical or not, default values included.
func TestNewestInstanceDecides(t *testing.T) {
	old := inst(1, claim5000, "dill.strategy=random", "dill.max_connections=5", "dill.idle_timeout=1m", "dill.drain=1m")
	newer := health(inst(2, claim5000, "dill.strategy=least_conn", "dill.max_connections=5"), source.Critical)
	other := inst(3, "dill.listener=local:6000")
	r := compileAll(consul(svc("web", 1, old, newer, other)))
	l := r.Listeners[0]
	if l.Strategy != route.LeastConn || l.MaxConnections != 5 || l.IdleTimeout != 0 || l.DrainTimeout != 0 {
		t.Errorf("listener %+v", l)
	}
	wantRefused(t, r,
		"consul/web|dill.drain|disagree; i2, registered last, decides",
		"consul/web|dill.idle_timeout|disagree; i2, registered last, decides",
		"consul/web|dill.strategy|disagree; i2, registered last, decides")
}

func TestInstanceOptionsAreTheirOwn(t *testing.T) {
	r := compileAll(consul(svc("web", 1,
		inst(1, claim5000, "dill.weight=3", "dill.connect_timeout=1s"),
		inst(2, claim5000, "dill.proxy_protocol=v1"))))
	wantRefused(t, r)
	bs := only(t, r).Backends
	if bs[0].Weight != 3 || bs[0].ConnectTimeout != time.Second || bs[0].ProxyProtocol != 0 ||
		bs[1].Weight != 1 || bs[1].ConnectTimeout != 0 || bs[1].ProxyProtocol != 1 {
		t.Errorf("backends %+v %+v", bs[0], bs[1])
	}
}

func TestAllowIsTheIntersection(t *testing.T) {
	for _, tt := range []struct {
		tags   []string
		want   []string
		reason string
	}{
		{[]string{"", ""}, nil, ""},
		{[]string{"dill.allow=10.0.0.0/8", "dill.allow=10.0.0.0/8"}, []string{"10.0.0.0/8"}, ""},
		{[]string{"dill.allow=10.0.0.0/8,10.1.0.0/16", "dill.allow=10.0.0.0/8"}, []string{"10.0.0.0/8"}, ""},
		{[]string{"", "dill.allow=10.0.0.0/8"}, []string{"10.0.0.0/8"}, "who all of them allow"},
		{[]string{"dill.allow=10.0.0.0/8,::/0", "dill.allow=10.1.0.0/16,11.0.0.0/8,2001:db8::/32"}, []string{"10.1.0.0/16", "2001:db8::/32"}, "who all of them allow"},
		{[]string{"dill.allow=10.0.0.0/8", "dill.allow=11.0.0.0/8"}, []string{}, "nobody is admitted"},
		{[]string{"dill.allow=10.0.0.0/8", "", "dill.allow=11.0.0.0/8"}, []string{}, "nobody is admitted"},
	} {
		var all []source.Instance
		for i, tag := range tt.tags {
			// Even a critical instance's list counts.
			all = append(all, health(inst(i+1, claim5000, tag), source.Health(i%2*2)))
		}
		r := compileAll(consul(svc("web", 1, all...)))
		l := only(t, r)
		var got []string
		for _, p := range l.Allow {
			got = append(got, p.String())
		}
		if !slices.Equal(got, tt.want) || (l.Allow == nil) != (tt.want == nil) {
			t.Errorf("%q allow %v, want %v", tt.tags, got, tt.want)
		}
		if tt.reason == "" {
			wantRefused(t, r)
		} else {
			wantRefused(t, r, "consul/web|dill.allow|"+tt.reason)
		}
	}
}

func TestAllowIsCapped(t *testing.T) {
	// Five instances that each allow 64 ranges inside the others' wide ones.
	var all []source.Instance
	for i := range 6 {
		var ranges []string
		for j := range 64 {
			if j == 63 {
				ranges = append(ranges, "0.0.0.0/1")
				continue
			}
			ranges = append(ranges, fmt.Sprintf("%d.%d.0.0/16", 128+i, j))
		}
		for k := range 6 {
			if k != i {
				ranges[k] = fmt.Sprintf("%d.0.0.0/8", 128+k)
			}
		}
		all = append(all, inst(i+1, claim5000, "dill.allow="+strings.Join(ranges, ",")))
	}
	r := compileAll(consul(svc("web", 1, all...)))
	if l := only(t, r); len(l.Allow) != maxAllow {
		t.Errorf("%d ranges", len(l.Allow))
	}
	if !slices.ContainsFunc(r.Refused, func(f route.Refusal) bool { return strings.Contains(f.Reason, "more than 256") }) {
		t.Errorf("refused %+v", r.Refused)
	}
}

// TestLongAllowCostsItsRest: who is listed beyond the limit is not admitted, and
// nobody else suffers.
func TestLongAllowCostsItsRest(t *testing.T) {
	for _, n := range []int{65, maxAllow, maxAllow + 1, 300} {
		var ranges []string
		for i := range n {
			ranges = append(ranges, fmt.Sprintf("::%x", i))
		}
		r := compileAll(consul(svc("web", 1, inst(1, claim5000, "dill.allow="+strings.Join(ranges, ",")))))
		l := only(t, r)
		if len(l.Backends) != 1 || len(l.Allow) != min(n, maxAllow) {
			t.Errorf("%d ranges: %d backends, %d ranges are admitted", n, len(l.Backends), len(l.Allow))
		}
		if n <= maxAllow {
			wantRefused(t, r)
		} else {
			wantRefused(t, r, "consul/web|dill.allow|more than 256 address ranges; the rest is not admitted")
		}
	}
}
