package consultest

import "testing"

// New starts an agent for a test and ends it in the test's cleanup. It fails
// the test when there is no binary or no leader; o.Dir is ignored.
func New(t testing.TB, o Options) *Agent {
	t.Helper()
	o.Dir = t.TempDir()
	a, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		a.Close()
		a.report(t)
	})
	return a
}

// NewCluster is StartCluster for a test, as New is Start.
func NewCluster(t testing.TB, n int, o Options) Cluster {
	t.Helper()
	o.Dir = t.TempDir()
	c, err := StartCluster(t.Context(), n, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		for _, a := range c {
			a.report(t)
		}
	})
	return c
}

// report prints the end of the log of an agent whose test failed.
func (a *Agent) report(t testing.TB) {
	if t.Failed() {
		t.Logf("log of consul at %s:\n%s", a.addr, a.LogTail(4000))
	}
}
