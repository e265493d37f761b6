package main

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"

	"dill/controlplane/consultest"
)

var readmePolicy = regexp.MustCompile("The token needs this much and no more:\n\n```hcl\n((?:.+\n)+)```")

// minimalPolicy is what the README tells operators to grant, rule by rule.
func minimalPolicy(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	must(t, err)
	m := readmePolicy.FindSubmatch(text)
	if m == nil {
		t.Fatal("the README has no policy")
	}
	return strings.Split(strings.TrimSpace(string(m[1])), "\n")
}

// right is what a rule of a policy grants, as errors name it.
func right(rule string) string {
	resource, _, _ := strings.Cut(rule, "_prefix")
	return resource + ":read"
}

// grant makes rules the policy of this name.
func grant(t *testing.T, agent *consultest.Agent, policy string, rules ...string) {
	t.Helper()
	acl, text := agent.Client().ACL(), strings.Join(rules, "\n")
	p, _, err := acl.PolicyReadByName(policy, nil)
	must(t, err)
	if p == nil {
		_, _, err = acl.PolicyCreate(&api.ACLPolicy{Name: policy, Rules: text}, nil)
	} else {
		p.Rules = text
		_, _, err = acl.PolicyUpdate(p, nil)
	}
	must(t, err)
}

// newToken makes a token that has this policy.
func newToken(t *testing.T, agent *consultest.Agent, policy string) *api.ACLToken {
	t.Helper()
	tok, _, err := agent.Client().ACL().TokenCreate(&api.ACLToken{Policies: []*api.ACLTokenPolicyLink{{Name: policy}}}, nil)
	must(t, err)
	return tok
}

func revoke(t *testing.T, agent *consultest.Agent, token *api.ACLToken) {
	t.Helper()
	_, err := agent.Client().ACL().TokenDelete(token.AccessorID, nil)
	must(t, err)
}

// unharmed checks that the log tells of no port that was closed, and of no
// token.
func (r *rig) unharmed(tokens ...*api.ACLToken) {
	r.t.Helper()
	if strings.Contains(r.log.String(), `msg="port closed"`) {
		r.t.Error("a port was closed")
	}
	for _, tok := range tokens {
		if strings.Contains(r.log.String()+r.table(), tok.SecretID) {
			r.t.Error("the token is shown")
		}
	}
}

// With exactly the policy that the README documents dill works. Without any one
// rule of it the log and Peek name that rule, no other, and it is enough to
// grant it.
func TestMinimalPolicyOfTheREADME(t *testing.T) {
	t.Parallel()
	agent := consultest.New(t, consultest.Options{ACL: true})
	rules := minimalPolicy(t)
	if len(rules) < 2 {
		t.Fatalf("the policy of the README is %q", rules)
	}
	hello := saying(t, "hello")
	policies := map[string][]string{"all": rules}
	for i, rule := range rules {
		policies["all but "+right(rule)] = slices.Delete(slices.Clone(rules), i, i+1)
	}
	for title, granted := range policies {
		// One after the other: each dill opens every port that it sees.
		t.Run(title, func(t *testing.T) {
			port, policy := freeAddr(t), strings.NewReplacer(" ", "-", ":", "-").Replace(title)
			grant(t, agent, policy, granted...)
			tok := newToken(t, agent, policy)
			register(t, agent, "web", "web", hello.Addr(), port)
			r := launch(t, fmt.Sprintf("consul.address = %q\nconsul.token = %q\n", agent.Addr(), tok.SecretID))
			for _, rule := range rules {
				if slices.Contains(granted, rule) {
					continue
				}
				r.says(`msg="consul is not current".* lacks ` + right(rule))
				r.peekSays(`\nstale\n├ consul: .* lacks ` + right(rule))
				r.closed(port)
			}
			for _, rule := range granted {
				if strings.Contains(r.log.String(), "lacks "+right(rule)) {
					t.Errorf("%s is called missing, and is not", right(rule))
				}
			}
			grant(t, agent, policy, rules...)
			r.answers(port, "hello")
			r.unharmed(tok)
		})
	}
}

// A policy for some services only is enough for these, also when none of them
// is registered.
func TestNarrowPolicySufficesForItsServices(t *testing.T) {
	t.Parallel()
	agent := consultest.New(t, consultest.Options{ACL: true})
	grant(t, agent, "narrow", `service_prefix "web" { policy = "read" }`, `node_prefix "" { policy = "read" }`)
	r := launch(t, fmt.Sprintf("consul.address = %q\nconsul.token = %q\nconsul.settle = '1s'\n", agent.Addr(), newToken(t, agent, "narrow").SecretID))
	hello, port := saying(t, "hello"), freeAddr(t)
	for range 2 {
		register(t, agent, "web", "web", hello.Addr(), port)
		r.answers(port, "hello")
		must(t, agent.Deregister("web"))
		r.closesWithin(promptly, port)
		r.peekSays(`^nothing is served: no service asks for a port[^\n]*\n$`)
	}
}

// A token that is none says which of the ways to have none it is.
func TestTokenThatAllowsNothingIsNamed(t *testing.T) {
	t.Parallel()
	agent := consultest.New(t, consultest.Options{ACL: true})
	hello := saying(t, "hello")
	register(t, agent, "web", "web", hello.Addr(), freeAddr(t))
	grant(t, agent, "useless", `key_prefix "" { policy = "read" }`)
	for title, tt := range map[string]struct{ token, says string }{
		"none":    {"", "no token is set, and Consul's anonymous one lacks node:read"},
		"unknown": {"00000000-0000-0000-0000-00000000dead", "consul does not know the token"},
		"useless": {newToken(t, agent, "useless").SecretID, "the token lacks node:read .*, and perhaps service:read"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			r := launch(t, fmt.Sprintf("consul.address = %q\nconsul.token = %q\n", agent.Addr(), tt.token))
			r.says(`msg="consul is not current".*` + tt.says)
			r.peekSays(`^nothing is served: a source cannot be read, see below\n\nstale\n├ consul: never current: .*` + tt.says)
			if tt.token != "" && strings.Contains(r.log.String(), tt.token) {
				t.Error("the token is in the log")
			}
		})
	}
}

// Rights that are lost while dill runs close no port, be it that Consul leaves
// things out of its answers (X-Consul-Results-Filtered-By-ACLs) or that it
// refuses them.
func TestRightsLostWhileRunningCloseNoPort(t *testing.T) {
	t.Parallel()
	agent := consultest.New(t, consultest.Options{ACL: true})
	rules := minimalPolicy(t)
	grant(t, agent, "dill", rules...)
	tok := newToken(t, agent, "dill")
	r := launch(t, fmt.Sprintf("consul.address = %q\nconsul.token = %q\nconsul.wait = '1s'\nconsul.settle = '1s'\n", agent.Addr(), tok.SecretID))
	web, db, hello := freeAddr(t), freeAddr(t), saying(t, "hello")
	for port, service := range map[netip.AddrPort]string{web: "web", db: "db", freeAddr(t): "web-2"} {
		register(t, agent, service, service, hello.Addr(), port)
		r.answers(port, "hello")
	}
	serving := probe(t, db)
	stale := func(why string) {
		t.Helper()
		r.peekSays(`\nstale\n├ consul: last current \d+s ago: .*` + why)
		r.answers(web, "hello")
		r.answers(db, "hello")
	}
	current := func() {
		t.Helper()
		r.eventually("consul is current", func() bool { return !strings.Contains(r.table(), "\nstale\n") })
	}
	for i, rule := range rules {
		grant(t, agent, "dill", slices.Delete(slices.Clone(rules), i, i+1)...)
		stale("lacks " + right(rule))
		grant(t, agent, "dill", rules...)
		current()
	}
	r.logged(len(rules), "consul is current again")

	// One service is hidden, the other is not, and goes when it goes.
	grant(t, agent, "dill", `service_prefix "web" { policy = "read" }`, `node_prefix "" { policy = "read" }`)
	r.says(`msg="ACLs hide services from the token"`)
	r.says(`msg="service is stale".* service=db`)
	r.peekSays(`\nstale\n├ consul/db: last current \d+s ago: instances are hidden: `)
	r.answers(db, "hello")
	r.unharmed(tok)
	must(t, agent.Deregister("web"))
	r.closed(web)
	register(t, agent, "web", "web", hello.Addr(), web)
	r.answers(web, "hello")

	revoke(t, agent, tok)
	r.says(`msg="consul is not current".* err="consul does not know the token`)
	stale("consul does not know the token")

	serving.only(t, "hello")
	r.logged(1, "port closed") // that of web
}

// The token file is read again when it changes: a wrong token can be mended,
// and a token that is replaced in time is no outage.
func TestTokenFileIsReadAgainWhenItChanges(t *testing.T) {
	t.Parallel()
	agent := consultest.New(t, consultest.Options{ACL: true})
	// What the second token sees besides tells when it is the one in use.
	grant(t, agent, "narrow", `service_prefix "with-the-first" { policy = "read" }`, `node_prefix "" { policy = "read" }`)
	grant(t, agent, "wide", minimalPolicy(t)...)
	first, second := newToken(t, agent, "narrow"), newToken(t, agent, "wide")
	file := filepath.Join(t.TempDir(), "token")
	replace(t, file, "00000000-0000-0000-0000-00000000dead\n")
	r := launch(t, fmt.Sprintf("consul.address = %q\nconsul.token_file = %q\n", agent.Addr(), file))
	hello := saying(t, "hello")
	opens := func(service string) netip.AddrPort {
		t.Helper()
		port := freeAddr(t)
		register(t, agent, service, service, hello.Addr(), port)
		r.answers(port, "hello")
		return port
	}
	r.says(`msg="consul is not current".* err="consul does not know the token`)
	replace(t, file, first.SecretID+"\n")
	port := opens("with-the-first")
	r.says(`msg="consul is current again"`)

	replace(t, file, second.SecretID+"\n")
	opens("with-the-second")
	revoke(t, agent, first)
	opens("with-the-second-alone")

	// A file that is being replaced may be empty or gone for a moment.
	must(t, os.WriteFile(file, nil, 0o600))
	opens("while-empty")
	must(t, os.Remove(file))
	opens("while-gone")
	r.answers(port, "hello")
	if n := strings.Count(r.log.String(), `msg="consul is not current"`); n != 1 {
		t.Errorf("%d outages, want only that of the wrong token", n)
	}
	r.unharmed(first, second)
}
