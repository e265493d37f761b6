package source

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestIsTag(t *testing.T) {
	for tag, want := range map[string]bool{
		"dill": true, "dill.listener=local:1": true, "dill.": true,
		" dill.listener=local:1": true, "\tdill": true, "Dill.Listener=local:1": true, "DILL": true,
		"dill,dill.listener=local:1": true, "dill:listener": true, "dill ": true, "dill=true": true,
		"": false, " ": false, "dil": false, "dillinger": false, "dill-web": false, "web.dill": false, "xdill.listener": false, "d\u0131ll": false,
	} {
		if IsTag(tag) != want {
			t.Errorf("IsTag(%q) is %v", tag, !want)
		}
	}
}

func TestIsTagAllocatesNothing(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { IsTag(" Dill.listener=x"); IsTag("urlprefix-/x") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
