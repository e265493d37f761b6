package main

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"

	"dill/controlplane/consultest"
)

// Whoever is tagged for dill and not served finds out why in Peek, beside the
// ports that are served: tags that count for nothing, and health.
func TestWhoIsNotServedIsTold(t *testing.T) {
	t.Parallel()
	agent := consultest.New(t, consultest.Options{})
	r := launch(t, fmt.Sprintf("consul.address = %q\n", agent.Addr()))
	good := saying(t, "hello")
	r.opens(agent, "good", good)

	port := freeAddr(t)
	listener := fmt.Sprintf("dill.listener=local:%d", port.Port())
	for name, tag := range map[string]string{
		"blank": " " + listener, "case": "Dill.Listener" + strings.TrimPrefix(listener, "dill.listener"),
		"comma": listener + ",dill.weight=2", "none": "v1",
	} {
		must(t, agent.Register(consultest.Service{Name: name, Port: int(good.Addr().Port()), Tags: []string{"dill", tag}}))
	}
	must(t, agent.Register(consultest.Service{Name: "sick", Port: int(good.Addr().Port()), Tags: []string{"dill", listener},
		Checks: api.AgentServiceChecks{consultest.TTL("critical")}}))
	for _, line := range []string{
		`consul/blank \S+  dill.listener=…: there are blanks around dill.listener`,
		`consul/case \S+ Dill.Listener=…: tags are in lower case; want dill.listener`,
		`consul/comma \S+ dill.listener=\S+: several in one tag; want a tag for each listener`,
		`consul/none \S+ dill.listener: no such tag, so no port is asked for; want dill.listener=<label>:<port>`,
		regexp.QuoteMeta(port.String()) + ` for consul/sick: no instance is passing: 1 critical`,
	} {
		r.peekSays(`\n├ ` + line + `\n`)
	}
}
