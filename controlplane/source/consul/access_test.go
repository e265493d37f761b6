package consul

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"dill/controlplane/consultest"
	"dill/controlplane/source"
)

const (
	serviceRule = `service_prefix "" { policy = "read" }`
	nodeRule    = `node_prefix "" { policy = "read" }`
)

// setRules makes rules what the policy of this name allows.
func setRules(t *testing.T, agent *consultest.Agent, policy, rules string) {
	t.Helper()
	acl := agent.Client().ACL()
	p, _, err := acl.PolicyReadByName(policy, nil)
	must(t, err)
	if p == nil {
		_, _, err = acl.PolicyCreate(&api.ACLPolicy{Name: policy, Rules: rules}, nil)
	} else {
		p.Rules = rules
		_, _, err = acl.PolicyUpdate(p, nil)
	}
	must(t, err)
}

// grant makes a token that rules apply to; the policy is named after it.
func grant(t *testing.T, agent *consultest.Agent, policy, rules string) string {
	t.Helper()
	setRules(t, agent, policy, rules)
	tok, _, err := agent.Client().ACL().TokenCreate(&api.ACLToken{Policies: []*api.ACLTokenPolicyLink{{Name: policy}}}, nil)
	must(t, err)
	return tok.SecretID
}

func TestACLs(t *testing.T) {
	t.Parallel()
	agent := consultest.New(t, consultest.Options{ACL: true})
	must(t, agent.Register(web("web-1")))
	for _, test := range []struct {
		name  string
		token string
		err   string // "" = it works
		not   string // what the error must not blame
	}{
		{name: "minimal", token: grant(t, agent, "minimal", serviceRule+nodeRule)},
		{name: "narrow", token: grant(t, agent, "narrow", `service_prefix "web" { policy = "read" }`+nodeRule)},
		{name: "no-service", token: grant(t, agent, "no-service", nodeRule), err: "lacks service:read (service_prefix", not: "node:read"},
		{name: "no-node", token: grant(t, agent, "no-node", serviceRule), err: "lacks node:read (node_prefix"},
		{name: "neither", token: grant(t, agent, "neither", `key_prefix "" { policy = "read" }`), err: "lacks node:read"},
		{name: "unknown", token: "00000000-0000-0000-0000-00000000dead", err: "does not know the token"},
		{name: "none", token: "", err: "no token is set"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			o := observe(t, Config{Address: agent.Addr(), Token: test.token})
			if test.err == "" {
				o.await(t, "it works", has("web", "node-1/web-1 passing"))
				return
			}
			s := o.await(t, test.err, failed(test.err))
			if s.Synced || test.not != "" && strings.Contains(s.Err.Error(), test.not) {
				t.Errorf("snapshot is %s", show(s))
			}
			if test.token != "" && strings.Contains(s.Err.Error()+o.log.String(), test.token) {
				t.Error("the token is shown")
			}
		})
	}
}

func TestNoServiceIsNotMistakenForNoRights(t *testing.T) {
	t.Parallel()
	agent := consultest.New(t, consultest.Options{ACL: true})
	o := observe(t, Config{Address: agent.Addr(), Token: grant(t, agent, "minimal", serviceRule+nodeRule)})
	s := o.await(t, "synced", current)
	if len(s.Services) != 0 {
		t.Errorf("snapshot is %s", show(s))
	}
}

func TestRightsThatAreLostTakeNothingAway(t *testing.T) {
	t.Parallel()
	agent := consultest.New(t, consultest.Options{ACL: true})
	must(t, agent.Register(web("web-1")))
	must(t, agent.Register(consultest.Service{ID: "api-1", Name: "api", Port: 80, Tags: []string{"dill"}}))
	full := serviceRule + nodeRule
	o := observe(t, Config{Address: agent.Addr(), Token: grant(t, agent, "dill", full), Wait: time.Second})
	o.await(t, "synced", sized(2))
	n := o.count()
	keeps := func(s source.Snapshot) bool { return len(s.Services) == 2 }

	for _, rules := range []string{nodeRule, serviceRule} {
		setRules(t, agent, "dill", rules)
		o.await(t, "noticed", failed("lacks"))
		setRules(t, agent, "dill", full)
		o.await(t, "mended", current)
	}
	// One service is hidden, the other is not.
	setRules(t, agent, "dill", `service_prefix "web" { policy = "read" }`+nodeRule)
	deadline := time.Now().Add(patience)
	for len(o.log.matching("ACLs hide services")) == 0 || len(o.log.matching("service is stale")) == 0 {
		if time.Now().After(deadline) {
			t.Fatal("the hidden service was not noticed")
		}
		<-time.After(10 * time.Millisecond)
	}
	s := o.await(t, "the hidden service alone is stale", func(s source.Snapshot) bool {
		return current(s) && len(s.Stale) == 1 && s.Stale[0].Service == "api"
	})
	if one := s.Stale[0]; !errors.Is(one.Err, errHidden) || time.Since(one.Since) > time.Minute {
		t.Errorf("stale is %+v", one)
	}
	never(t, "something is gone", o.since(n), func(s source.Snapshot) bool { return !keeps(s) })

	// What can be seen still goes when it goes.
	must(t, agent.Deregister("web-1"))
	o.within(t, 5*time.Second, "deregistered", has("web"))
	s, _ = o.last()
	if got := instancesOf(s, "api"); len(got) != 1 {
		t.Errorf("the hidden service has %q", got)
	}
}

func TestTokenFileIsReadAgain(t *testing.T) {
	t.Parallel()
	agent := consultest.New(t, consultest.Options{ACL: true})
	must(t, agent.Register(web("web-1")))
	good := grant(t, agent, "minimal", serviceRule+nodeRule)
	file := filepath.Join(t.TempDir(), "token")
	must(t, os.WriteFile(file, []byte("00000000-0000-0000-0000-00000000dead\n"), 0o600))
	o := observe(t, Config{Address: agent.Addr(), TokenFile: file})
	o.await(t, "refused", failed("does not know the token"))

	replace := func(text string) {
		must(t, os.WriteFile(file+".new", []byte(text), 0o600))
		must(t, os.Rename(file+".new", file))
	}
	replace(good + "\n")
	o.within(t, 5*time.Second, "accepted", sized(1))

	// A token replaced in time is not an outage.
	n, sessions := o.count(), o.Counters().Sessions
	replace(grant(t, agent, "other", serviceRule+nodeRule))
	deadline := time.Now().Add(patience)
	for o.Counters().Sessions == sessions && time.Now().Before(deadline) {
		<-time.After(10 * time.Millisecond)
	}
	must(t, agent.Register(web("web-2")))
	o.await(t, "with the new one", has("web", "node-1/web-1 passing", "node-1/web-2 passing"))
	never(t, "an outage", o.since(n), func(s source.Snapshot) bool { return s.Err != nil })
	must(t, os.Remove(file))
	must(t, agent.Deregister("web-2"))
	o.await(t, "without the file", has("web", "node-1/web-1 passing"))
}

func TestTLS(t *testing.T) {
	t.Parallel()
	for name, kind := range map[string]consultest.TLS{"server": consultest.Server, "mutual": consultest.Mutual} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			agent := consultest.New(t, consultest.Options{TLS: kind})
			must(t, agent.Register(web("web-1")))
			good := TLS{CA: agent.CA}
			if kind == consultest.Mutual {
				bare := observe(t, Config{Address: agent.Addr(), TLS: good})
				bare.await(t, "refused", func(s source.Snapshot) bool { return s.Err != nil && !s.Synced })
				good.Cert, good.Key = agent.Cert, agent.Key
			}
			o := observe(t, Config{Address: agent.Addr(), TLS: good})
			o.await(t, "synced", sized(1))

			stranger := observe(t, Config{Address: agent.Addr()})
			stranger.await(t, "not trusted", failed("certificate signed by unknown authority"))
			good.ServerName = "consul.example"
			misnamed := observe(t, Config{Address: agent.Addr(), TLS: good})
			misnamed.await(t, "another name", failed("consul.example"))
		})
	}
}

func TestHTTP2LiftsTheBudget(t *testing.T) {
	t.Parallel()
	const n = 600
	agent := consultest.New(t, consultest.Options{TLS: consultest.Server})
	registerMany(t, agent, n)
	o := observe(t, Config{Address: agent.Addr(), TLS: TLS{CA: agent.CA}})
	o.await(t, "synced", sized(n))
	for _, i := range []int{0, n / 2, n - 1} {
		name := serviceName(i)
		setElsewhere(t, agent, name, "critical", "")
		o.await(t, name, has(name, elsewhere+"/"+name+" critical"))
	}
	c := o.Counters()
	t.Logf("%d services: %+v", n, c)
	if c.State != 0 || c.Connections > 10 || c.PeakConnections > DefaultMaxConnections {
		t.Errorf("%d services over HTTP/2 take %+v", n, c)
	}
}

func TestUnixSocket(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "http.sock")
	agent := consultest.New(t, consultest.Options{Extra: `addresses { http = "127.0.0.1 unix://` + path + `" }`})
	must(t, agent.Register(web("web-1")))
	o := observe(t, Config{Address: "unix://" + path})
	o.await(t, "synced", has("web", "node-1/web-1 passing"))
}
