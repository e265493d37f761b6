package compile

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"dill/controlplane/source"
)

// FuzzTags: foreign tags never panic, whatever is said about them is short and
// printable, and their order does not matter.
func FuzzTags(f *testing.F) {
	for _, seed := range []string{
		"dill\ndill.listener=local:5000", "dill\ndill.listener=any:80\ndill.listener=:\ndill.listener=local:5000=x",
		"dill\ndill.allow=10.0.0.0/8,::1\ndill.allow=::ffff:1.2.3.4/100", "dill\ndill.weight=3\ndill.weight=4\ndill.strategy=",
		"dill\ndill.proxy=socks5://u:p@h:1\ndill.proxy_protocol=v2", "dill\ndill.idle_timeout=off\ndill.drain=1h\ndill.\xff=\x00",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		tags := strings.Split(text, "\n")
		back := make([]string, len(tags))
		for i, tag := range tags {
			back[len(tags)-1-i] = tag
		}
		compiled := func(tags []string) Result {
			return compileAll(consul(svc(text, 1, source.Instance{ID: text, Host: "10.0.0.1", Port: 80, Tags: tags})))
		}
		r, q := compiled(tags), compiled(back)
		if len(r.Refused) != len(q.Refused) || len(r.Listeners) != len(q.Listeners) {
			t.Errorf("order matters: %+v, %+v", r, q)
		}
		for i, f := range r.Refused {
			checkPrintable(t, f)
			if f != q.Refused[i] {
				t.Errorf("order matters: %+v, %+v", f, q.Refused[i])
			}
		}
		opt := config()
		for _, l := range r.Listeners {
			if p := int(l.Addr.Port()); p < opt.PortMin || p > opt.PortMax || l.MaxConnections < 0 {
				t.Errorf("serves %+v", l)
			}
			for _, p := range l.Allow {
				if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() {
					t.Errorf("allows %v", p)
				}
			}
		}
	})
}

// FuzzProxy: credentials never show, in whatever tag and URL they stand, and
// those of a good URL arrive as they were.
func FuzzProxy(f *testing.F) {
	f.Add("dill.proxy=socks5://", "alice", "@10.0.0.9:1080")
	f.Add("dill.proxy=", "x", "@")
	f.Add("dill.prox=socks5://a:", "p@q", "@proxy.test:1")
	f.Add("dill.listener=socks5://", "%zz", "@h")
	f.Fuzz(func(t *testing.T, before, secret, after string) {
		// A secret of its own, so that finding it is no coincidence.
		secret = "s3cr3t" + secret + "s3cr3t"
		text := before + ":" + secret + after
		if !strings.Contains(text, "://") || !strings.HasPrefix(text, "dill.") || strings.Contains(before, "s3cr3t") {
			t.Skip()
		}
		// What stands after the @ is the host, and shown.
		if i := strings.LastIndexByte(text, '@'); i < 0 || strings.Contains(text[i:], "s3cr3t") || strings.Contains(text[:strings.Index(text, "://")], "s3cr3t") {
			t.Skip()
		}
		r := compileAll(consul(svc("web", 1, inst(1, claim5000, text))))
		for _, f := range r.Refused {
			checkPrintable(t, f)
			if strings.Contains(f.Claim+f.Reason, "s3cr3t") {
				t.Errorf("%q shows in %+v", text, f)
			}
		}

		good := "dill.proxy=socks5://" + url.UserPassword("user", secret).String() + "@10.0.0.9:1080"
		if len(secret) > maxCredential || len(good) > maxTag {
			t.Skip()
		}
		l := only(t, compileAll(consul(svc("web", 1, inst(1, claim5000, good)))))
		if s := l.Backends[0].Socks; s.Password != secret || s.User != "user" || s.Addr != ap("10.9.9.9:1080") && s.Addr != ap("10.0.0.9:1080") {
			t.Errorf("%q arrives as %q", secret, s.Password)
		}
	})
}

// FuzzAllow: whatever is read admits no address that its text does not.
func FuzzAllow(f *testing.F) {
	f.Add("10.0.0.0/8,10.1.0.0/16", "10.1.2.3/32", "10.1.2.3")
	f.Add("::/0", "::ffff:10.0.0.0/100", "10.0.0.1")
	f.Fuzz(func(t *testing.T, a, b, client string) {
		ip, err := netip.ParseAddr(client)
		if err != nil {
			t.Skip()
		}
		ip = ip.Unmap().WithZone("")
		x, wantX := parseAllow(a)
		y, wantY := parseAllow(b)
		if wantX != "" || wantY != "" {
			t.Skip()
		}
		admits := func(ps []netip.Prefix) bool {
			for _, p := range ps {
				if p.Contains(ip) {
					return true
				}
			}
			return false
		}
		each := func(text string) bool {
			for item := range strings.SplitSeq(text, ",") {
				if p, ok := parseRange(strings.Trim(item, " ")); ok && p.Contains(ip) {
					return true
				}
			}
			return false
		}
		if admits(x) != each(a) || admits(y) != each(b) {
			t.Errorf("%q became %v, %q became %v", a, x, b, y)
		}
		if admits(intersect(x, y)) != (admits(x) && admits(y)) {
			t.Errorf("%v and %v have %v in common", x, y, intersect(x, y))
		}
	})
}
