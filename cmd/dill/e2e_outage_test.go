package main

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dill/controlplane/consultest"
	"dill/dataplane/dptest"
)

// current waits until Peek calls no source stale any more.
func (r *rig) current(limit time.Duration) {
	r.t.Helper()
	r.within(limit, "no source is stale", func() bool {
		text := r.table()
		return strings.Contains(text, "round_robin") && !strings.Contains(text, "\nstale\n")
	})
}

var staleAge = regexp.MustCompile(`\nstale\n├ consul: last current (\S+) ago: `)

// ages waits until Peek tells an age of what Consul last said, and then a
// greater one.
func (r *rig) ages(limit time.Duration) {
	r.t.Helper()
	var first time.Duration
	age := func() time.Duration {
		if m := staleAge.FindStringSubmatch(r.table()); m != nil {
			if d, err := time.ParseDuration(m[1]); err == nil {
				return d
			}
		}
		return 0
	}
	r.within(limit, "Peek tells that consul is stale", func() bool { first = age(); return first > 0 })
	r.within(limit, "Peek tells a greater age", func() bool { return age() > first })
}

// opens registers one more service and waits until its port serves.
func (r *rig) opens(agent *consultest.Agent, service string, hello *dptest.Backend) netip.AddrPort {
	r.t.Helper()
	port := freeAddr(r.t)
	register(r.t, agent, service, service, hello.Addr(), port)
	r.answers(port, "hello")
	return port
}

// unsettled has a removal that is wrong show within the test.
const unsettled = "consul.settle = '1s'\n"

// The leader of three servers is lost, and then the quorum: ports stay open and
// serve, the age of what is known is shown, and changes are taken again after
// the election and after the servers' return.
func TestLeaderAndThenQuorumLost(t *testing.T) {
	t.Parallel()
	cluster := consultest.NewCluster(t, 3, consultest.Options{})
	leader, err := cluster.Leader()
	must(t, err)
	var others []*consultest.Agent
	for _, a := range cluster {
		if a != leader {
			others = append(others, a)
		}
	}
	asked, other := others[0], others[1]
	r := launch(t, fmt.Sprintf("consul.address = %q\nconsul.wait = '1s'\n"+unsettled, asked.Addr()))
	hello := saying(t, "hello")
	serving := probe(t, r.opens(asked, "web", hello))

	leader.Kill()
	serving.hear(t, "hello", 10)
	dptest.Eventually(t, "another server leads", func() bool {
		now, err := cluster.Leader()
		return err == nil && now != leader
	})
	r.opens(asked, "after-the-election", hello)
	r.current(dptest.Patience)

	other.Kill()
	r.ages(time.Minute)
	r.says(`level=WARN msg="consul is not current"`)
	serving.hear(t, "hello", 10)

	var restarts sync.WaitGroup
	for _, a := range []*consultest.Agent{leader, other} {
		restarts.Go(func() {
			if err := a.Restart(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	restarts.Wait()
	r.current(dptest.Patience)
	r.opens(asked, "after-the-return", hello)
	serving.only(t, "hello")
	r.unharmed()
}

// A snapshot is restored, so that the index goes back and a service is missing
// that registers again a moment later: its port stays, and so do the others;
// what changes afterwards is taken, and what is really gone goes.
func TestRestoredSnapshotClosesNoPort(t *testing.T) {
	t.Parallel()
	const settle = 3 * time.Second
	agent := consultest.New(t, consultest.Options{Server: true})
	r := launch(t, fmt.Sprintf("consul.address = %q\nconsul.settle = '%v'\n", agent.Addr(), settle))
	hello := saying(t, "hello")
	old := r.opens(agent, "old", hello)
	archive, _, err := agent.Client().Snapshot().Save(nil)
	must(t, err)
	saved, err := io.ReadAll(archive)
	must(t, err)
	must(t, archive.Close())

	// On a node without an agent nobody registers again what the restore takes
	// away, so the test says when, and whether.
	back, gone := freeAddr(t), freeAddr(t)
	registerElsewhere(t, agent, "back", "back", hello.Addr(), back)
	registerElsewhere(t, agent, "gone", "gone", hello.Addr(), gone)
	r.answers(back, "hello")
	r.answers(gone, "hello")
	serving := []*probes{probe(t, old), probe(t, back)}
	departing := probe(t, gone)

	restored := time.Now()
	must(t, agent.Client().Snapshot().Restore(nil, bytes.NewReader(saved)))
	r.peekSays(`\nwaiting\n├ consul: 2 instances gone, kept until that has settled`)
	registerElsewhere(t, agent, "back", "back", hello.Addr(), back)
	r.peekSays(`\nwaiting\n├ consul: 1 instance gone, kept until that has settled`)
	late := r.opens(agent, "late", hello)
	departing.unharmedUntil(t, restored.Add(settle))
	departing.only(t, "hello")
	r.closed(gone)
	must(t, agent.Deregister("late"))
	r.closed(late)
	for _, s := range serving {
		s.only(t, "hello")
	}
	r.logged(2, "port closed")
}

// With Consul silent, which takes longer to notice than one that refuses, a
// start serves the last good table at once all the same, and marks it stale.
func TestStartWithConsulSilentServesTheStateAtOnce(t *testing.T) {
	t.Parallel()
	agent := consultest.New(t, consultest.Options{})
	r := launch(t, fmt.Sprintf("consul.address = %q\nstate.path = %q\n"+unsettled, agent.Addr(), t.TempDir()+"/state"))
	hello := saying(t, "hello")
	port := r.opens(agent, "web", hello)
	r.signal(syscall.SIGTERM)
	r.exits(exitOK)

	must(t, agent.Stop())
	begun := time.Now()
	r.start()
	r.answers(port, "hello")
	if d := time.Since(begun); d > promptly {
		t.Errorf("served after %v", d)
	}
	r.peekSays(`\nstale\n├ consul: last current \d+s ago: from state file, \d+s old\n`)
	serving := probe(t, port)
	r.peekSays(`\nstale\n├ consul: last current \d+s ago: consul does not answer\n`)
	must(t, agent.Cont())
	r.current(5 * time.Second)
	r.opens(agent, "late", hello)
	serving.only(t, "hello")
	r.unharmed()
}

// A state file that is damaged is set aside and named; dill starts, works, and
// writes a good one.
func TestDamagedStateFileIsSetAside(t *testing.T) {
	t.Parallel()
	agent := consultest.New(t, consultest.Options{})
	path := filepath.Join(t.TempDir(), "state")
	settings := fmt.Sprintf("consul.address = %q\nstate.path = %q\n", agent.Addr(), path)
	r := launch(t, settings)
	hello := saying(t, "hello")
	port := r.opens(agent, "web", hello)
	stop := func() {
		t.Helper()
		r.signal(syscall.SIGTERM)
		r.exits(exitOK)
	}
	stop()
	good, err := os.ReadFile(path)
	must(t, err)
	flipped := bytes.Clone(good)
	flipped[len(flipped)/2] ^= 1
	for title, content := range map[string][]byte{
		"truncated": good[:len(good)/2],
		"bit":       flipped,
		"empty":     {},
		"foreign":   []byte("\x7fELF\x02\x01\x01\x00 and more"),
	} {
		must(t, os.WriteFile(path, content, 0o600))
		r.start()
		r.says(`level=ERROR msg="last good table not restored" path=` + regexp.QuoteMeta(path) + ` err="damaged: .*; set aside as ` + regexp.QuoteMeta(path) + `\.damaged-\S+"`)
		r.answers(port, "hello")
		stop()
		aside, err := filepath.Glob(path + ".damaged-*")
		must(t, err)
		if len(aside) != 1 {
			t.Fatalf("%s: set aside as %q", title, aside)
		}
		kept, err := os.ReadFile(aside[0])
		must(t, err)
		if !bytes.Equal(kept, content) {
			t.Errorf("%s: what was set aside is not what was there", title)
		}
		must(t, os.Remove(aside[0]))
	}

	// The new one is good.
	agent.Kill()
	r.start()
	r.answers(port, "hello")
	if strings.Contains(r.log.String(), "level=ERROR") {
		t.Error("the file that dill wrote is no good")
	}
}
