package main

import (
	"fmt"
	"testing"

	"dill/controlplane/consultest"
)

// A service may have any name. None keeps the port of another open or shut, and
// those that differ in case only are two.
func TestNamesThatAreOdd(t *testing.T) {
	t.Parallel()
	agent := consultest.New(t, consultest.Options{})
	r := launch(t, fmt.Sprintf("consul.address = %q\n", agent.Addr()+"/"))
	for i, name := range []string{"/service.v1", "..", "a//b", "web", "Web"} {
		backend, port := saying(t, name), freeAddr(t)
		id := fmt.Sprintf("id-%d", i)
		register(t, agent, name, id, backend.Addr(), port)
		r.answers(port, name)
		r.shows(port, backend.Addr())
		if err := agent.Deregister(id); err != nil {
			t.Fatal(err)
		}
		r.closed(port)
	}

	// One that is claimed by web and by Web is served by one of them alone.
	first, second, port := saying(t, "first"), saying(t, "second"), freeAddr(t)
	register(t, agent, "web", "one", first.Addr(), port)
	r.answers(port, "first")
	register(t, agent, "Web", "two", second.Addr(), port)
	r.peekSays(fmt.Sprintf(`\nrefused\n├ consul/Web \S*/two dill.listener=local:%d: owned by consul/web\n`, port.Port()))
	r.shows(port, first.Addr())
}
