package consul

import (
	"bytes"
	"io"
	"testing"
	"time"

	"dill/controlplane/consultest"
	"dill/controlplane/source"
)

// never fails the test if cond is true of one of the snapshots.
func never(t *testing.T, what string, snapshots []source.Snapshot, cond func(source.Snapshot) bool) {
	t.Helper()
	for _, s := range snapshots {
		if cond(s) {
			t.Errorf("%s: %s", what, show(s))
			return
		}
	}
}

// removes tells whether a publisher would take s as the end of web.
func removes(s source.Snapshot) bool {
	return current(s) && !s.Suspect && len(instancesOf(s, "web")) == 0
}

func TestDevAgentRestartForgetsEverything(t *testing.T) {
	t.Parallel()
	agent := consultest.New(t, consultest.Options{})
	must(t, agent.Register(web("web-1")))
	o := observe(t, Config{Address: agent.Addr()})
	o.await(t, "synced", sized(1))
	n := o.count()

	agent.Kill()
	s := o.await(t, "unreachable", failed("connect: connection refused"))
	if len(s.Services) != 1 || s.StaleSince.IsZero() || time.Since(s.StaleSince) > time.Minute {
		t.Errorf("while it is gone: %s, stale since %v", show(s), s.StaleSince)
	}
	must(t, agent.Restart(t.Context()))
	s = o.within(t, 5*time.Second, "current again", current)
	if len(s.Services) != 0 || !s.Suspect {
		t.Errorf("of an empty new agent: %s", show(s))
	}
	never(t, "the service was given up", o.since(n), removes)
	must(t, agent.Register(web("web-1")))
	o.await(t, "registered again", has("web", "node-1/web-1 passing"))
	o.await(t, "no longer suspect", func(s source.Snapshot) bool { return current(s) && !s.Suspect })

	if got := o.log.matching("consul is not current"); len(got) != 1 {
		t.Errorf("%d lines about the outage: %q", len(got), got)
	}
	if got := o.log.matching("consul is current again"); len(got) != 1 {
		t.Errorf("%d lines about its end: %q", len(got), got)
	}
}

func TestServerRestartLosesNothing(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*consultest.Agent) error{
		"killed":     func(a *consultest.Agent) error { a.Kill(); return nil },
		"terminated": (*consultest.Agent).Terminate,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			agent := consultest.New(t, consultest.Options{Server: true})
			must(t, agent.Register(web("web-1")))
			o := observe(t, Config{Address: agent.Addr()})
			o.await(t, "synced", sized(1))
			n := o.count()
			must(t, end(agent))
			o.await(t, "unreachable", func(s source.Snapshot) bool { return s.Err != nil })
			must(t, agent.Restart(t.Context()))
			s := o.within(t, 5*time.Second, "current again", current)
			if !s.Suspect {
				t.Error("absence right after an outage is no proof, but not suspect")
			}
			never(t, "the service was gone", o.since(n), func(s source.Snapshot) bool { return len(s.Services) != 1 })
			must(t, agent.Deregister("web-1"))
			o.await(t, "deregistered", sized(0))
		})
	}
}

func TestConsulDownAtTheStart(t *testing.T) {
	t.Parallel()
	agent := consultest.New(t, consultest.Options{})
	must(t, agent.Register(web("web-1")))
	agent.Kill()
	o := observe(t, Config{Address: agent.Addr()})
	s := o.await(t, "unreachable", failed("connection refused"))
	if s.Synced || len(s.Services) != 0 || !s.StaleSince.IsZero() {
		t.Errorf("before anything was read: %s, stale since %v", show(s), s.StaleSince)
	}
	must(t, agent.Restart(t.Context()))
	must(t, agent.Register(web("web-1")))
	o.within(t, 5*time.Second, "registered", has("web", "node-1/web-1 passing"))
	if got := o.log.matching("consul is not current"); len(got) != 1 {
		t.Errorf("%d lines: %q", len(got), got)
	}
}

func TestSilentAgentIsNoticedAndHeals(t *testing.T) {
	t.Parallel()
	agent := consultest.New(t, consultest.Options{})
	must(t, agent.Register(web("web-1")))
	o := observe(t, Config{Address: agent.Addr(), Wait: time.Second})
	o.await(t, "synced", sized(1))
	must(t, agent.Stop())
	s := o.within(t, time.Minute, "noticed", failed("does not answer"))
	if len(s.Services) != 1 {
		t.Errorf("while it is silent: %s", show(s))
	}
	must(t, agent.Cont())
	o.within(t, 5*time.Second, "healed", current)
	must(t, agent.Register(web("web-2")))
	o.await(t, "registered", has("web", "node-1/web-1 passing", "node-1/web-2 passing"))
}

// TestPartition has a network that swallows everything, and when it works again
// knows nothing of the connections there were.
func TestPartition(t *testing.T) {
	t.Parallel()
	agent := consultest.New(t, consultest.Options{})
	must(t, agent.Register(web("web-1")))
	network := newNetwork(t, agent.Addr())
	o := observe(t, Config{Address: network.addr(), Wait: time.Second})
	o.await(t, "synced", sized(1))
	network.part()
	s := o.within(t, time.Minute, "noticed", failed("does not answer"))
	if len(s.Services) != 1 {
		t.Errorf("while it is silent: %s", show(s))
	}
	must(t, agent.Register(web("web-2")))
	network.heal()
	began := time.Now()
	o.within(t, 5*time.Second, "healed", func(s source.Snapshot) bool {
		return current(s) && len(instancesOf(s, "web")) == 2
	})
	t.Logf("current %v after the network was", time.Since(began))
}

func TestLeaderLost(t *testing.T) {
	t.Parallel()
	cluster := consultest.NewCluster(t, 3, consultest.Options{})
	leader, err := cluster.Leader()
	must(t, err)
	var asked *consultest.Agent // one that stays
	for _, a := range cluster {
		if a != leader {
			asked = a
		}
	}
	must(t, asked.Register(web("web-1")))
	o := observe(t, Config{Address: asked.Addr(), Wait: 2 * time.Second})
	o.await(t, "synced", sized(1))
	n := o.count()

	// With two of three gone there is no leader to be had.
	for _, a := range cluster {
		if a != asked {
			a.Kill()
		}
	}
	o.within(t, time.Minute, "no leader", func(s source.Snapshot) bool { return s.Err != nil })
	for _, a := range cluster {
		if a != asked {
			must(t, a.Restart(t.Context()))
		}
	}
	o.within(t, time.Minute, "current again", current)
	never(t, "the service was gone", o.since(n), func(s source.Snapshot) bool { return len(s.Services) != 1 })
}

func TestSnapshotRestoreGoesBack(t *testing.T) {
	t.Parallel()
	agent := consultest.New(t, consultest.Options{Server: true})
	must(t, agent.Register(consultest.Service{ID: "old-1", Name: "old", Port: 80, Tags: []string{"dill"}}))
	archive, _, err := agent.Client().Snapshot().Save(nil)
	must(t, err)
	saved, err := io.ReadAll(archive)
	must(t, err)
	must(t, archive.Close())
	must(t, registerElsewhere(agent, "web", 0))
	o := observe(t, Config{Address: agent.Addr()})
	o.await(t, "synced", sized(2))
	n := o.count()
	must(t, agent.Client().Snapshot().Restore(nil, bytes.NewReader(saved)))
	o.await(t, "back in time", func(s source.Snapshot) bool { return len(s.Services) == 1 })
	never(t, "removed without suspicion", o.since(n), removes)
}
