package dataplane_test

import (
	"fmt"
	"strings"
	"testing"

	. "dill/dataplane/dptest"
	"dill/dataplane/route"
)

// TestPortIsSaidToBeOpenOnlyWhenItIs: the log has "port opened" after the bind
// and not before, however late that is, and "port closed" after the close, with
// the owner's name each time.
func TestPortIsSaidToBeOpenOnlyWhenItIs(t *testing.T) {
	r := start(t, setup{serve: names})
	addr := FreeAddr(t)
	release := listenWith(t, addr, 0)
	opened := fmt.Sprintf(`msg="port opened" listener=%v owner=test/other backends=1`, addr)
	closed := fmt.Sprintf(`msg="port closed" listener=%v owner=test/other`, addr)

	r.swap(r.listener(), serving(addr, r.backends[0].Addr()))
	Eventually(t, "the taken port is told", func() bool {
		return r.log.contains(fmt.Sprintf(`msg="port cannot be opened, will retry" listener=%v`, addr))
	})
	if r.log.contains(fmt.Sprintf("opened\" listener=%v", addr)) {
		t.Error("a port that is taken is said to be open")
	}
	release()
	Eventually(t, "the port is said to be open", func() bool { return r.log.contains(opened) })
	if got, err := Ask(addr); got != "A" {
		t.Errorf("the port that is said to be open answers %q, %v", got, err)
	}
	r.swap(r.listener())
	Eventually(t, "the port is said to be closed", func() bool { return r.log.contains(closed) })
	if Listening(t, addr) {
		t.Error("the port that is said to be closed is open")
	}
	for _, line := range []string{opened, closed} {
		if n := strings.Count(r.log.String(), line); n != 1 {
			t.Errorf("said %d times: %s", n, line)
		}
	}
}

// TestManyPortsAreSummedUp: a few lines tell of any number of ports.
func TestManyPortsAreSummedUp(t *testing.T) {
	const n = 40
	r := start(t, setup{serve: names})
	table := []*route.Listener{r.listener()}
	for range n {
		table = append(table, serving(FreeAddr(t), r.backends[0].Addr()))
	}
	Eventually(t, "the first port is said to be open", func() bool { return r.log.contains("port opened") })
	r.publish(t, table...)
	r.swap(r.listener())
	Eventually(t, "the ports are said to be closed", func() bool { return r.log.contains(`msg="ports closed"`) })
	for _, phrase := range []string{"ports opened", "ports closed"} {
		if !r.log.contains(fmt.Sprintf("msg=%q listeners=", phrase)) || strings.Count(r.log.String(), fmt.Sprintf("and %d more", n-5)) != 2 {
			t.Errorf("no summary of %s", phrase)
		}
	}
	if strings.Count(r.log.String(), "port opened") != 1 || r.log.contains("port closed") {
		t.Error("single ports are told, too")
	}
}
