package publish

import (
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"dill/controlplane/source"
	"dill/controlplane/state"
)

// on puts all instances of a service at 127.0.0.1 and this port.
func on(port int, s source.Service) source.Service {
	for i := range s.Instances {
		s.Instances[i].Host, s.Instances[i].Port = "127.0.0.1", port
	}
	return s
}

func local(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
}

// refuses fails the test unless Peek has exactly these refusals, each written as
// "service: part of the reason".
func (w *world) refuses(when string, want ...string) {
	w.t.Helper()
	got := w.Status().Table.Refused
	ok := len(got) == len(want)
	for i := 0; ok && i < len(want); i++ {
		service, why, _ := strings.Cut(want[i], ": ")
		ok = got[i].Service == service && strings.Contains(got[i].Reason, why)
	}
	if !ok {
		w.t.Errorf("%s: refused %+v, want %q", when, got, want)
	}
}

// A claim on the port of another service's backend never gets to the plane, and
// the other's listener does not even linger.
func TestClaimOnABackendsPortIsRefused(t *testing.T) {
	within(t, func(w *world) {
		w.tell("consul", on(6000, svc("a", 5000, "n1")))
		w.serves("before", "5000=n1")
		w.wait(time.Second)
		w.tell("file", svc("b", 6000, "n2"))
		for range 3 {
			w.serves("claimed", "5000=n1")
			w.refuses("claimed", "file/b: taken by a backend of consul/a (n1 at 127.0.0.1:6000)")
			w.wait(time.Minute)
		}
		w.tell("consul")
		w.serves("a has gone", "6000=n2")
	})
}

// A port that dill has bound stays open when a backend is registered there.
func TestBackendOnABoundPortIsRefused(t *testing.T) {
	within(t, func(w *world) {
		w.tell("file", svc("b", 6000, "n2"))
		w.wait(time.Second)
		w.tell("consul", on(6000, svc("a", 5000, "n1")))
		w.serves("registered there", "6000=n2")
		w.refuses("registered there", "consul/a: would reach dill itself (127.0.0.1:6000)")
	})
}

// A port that dill cannot bind, since the backend that is registered later has
// it already, is not dill's.
func TestClaimThatIsNotBoundGivesWay(t *testing.T) {
	within(t, func(w *world) {
		w.plane.take(local(6000), true)
		w.tell("file", svc("b", 6000, "n2"))
		w.wait(time.Second)
		w.serves("tried", "6000=n2")
		w.tell("consul", on(6000, svc("a", 5000, "n1")))
		w.serves("registered there", "5000=n1")
		w.refuses("registered there", "file/b: taken by a backend of consul/a")
	})
}

// at is on, at another address.
func at(host string, port int, s source.Service) source.Service {
	s = on(port, s)
	for i := range s.Instances {
		s.Instances[i].Host = host
	}
	return s
}

// A port that another program has, while a backend is registered at it on another
// address of this host, is that backend's also while it is away for a moment:
// bound to all addresses it could not come back.
func TestBackendOnAllAddressesGetsItsPortBack(t *testing.T) {
	within(t, func(w *world) {
		const refused = "file/b: taken by a backend of consul/a (n1 at 127.0.0.2:6000): 127.0.0.1:6000 is in use"
		w.plane.take(local(6000), true)
		a, b := at("127.0.0.2", 6000, svc("a", 5000, "n1")), svc("b", 6000, "n2")
		w.tell("consul", a)
		w.tell("file", b)
		w.wait(spacing)
		w.serves("tried", "5000=n1", "6000=n2")
		w.wait(spacing)
		w.serves("in use, and given up before it is tried again", "5000=n1")
		w.refuses("in use", refused)
		w.plane.take(local(6000), false)
		for range 3 {
			w.wait(time.Minute)
			w.tell("consul", a)
			w.tell("file", b)
			w.serves("a is away", "5000=n1")
			w.refuses("a is away", refused)
		}
		w.Configure(w.settings())
		synctest.Wait()
		w.serves("new settings", "5000=n1")

		w.tell("file")
		w.wait(time.Second)
		w.tell("file", b)
		w.serves("the claim is a new one, and the port is free", "5000=n1", "6000=n2")
		w.wait(time.Minute)
		w.serves("bound", "5000=n1", "6000=n2")
	})
	within(t, func(w *world) {
		w.plane.take(local(6000), true)
		w.tell("file", svc("b", 6000, "n2"))
		w.tell("consul", at("127.0.0.2", 6000, svc("a", 5000, "n1")))
		w.wait(time.Minute)
		w.serves("in use", "5000=n1")
		w.tell("consul")
		w.serves("a is deregistered", "6000=n2")
		w.plane.take(local(6000), false)
		w.tell("consul", at("127.0.0.2", 6000, svc("a", 5000, "n1")))
		w.wait(time.Minute)
		w.serves("dill was first", "5000=n1", "6000=n2")
	})
}

// One port on several addresses of this host is for several services, also after
// a restart; and what a connection has comes free.
func TestPortOnSeveralAddressesIsForSeveral(t *testing.T) {
	several := func(w *world) {
		for range 3 {
			w.tell("consul", at("127.0.0.2", 6000, svc("a", 5000, "n1")))
			w.tell("file", svc("b", 6000, "n2"))
			w.wait(time.Minute)
			w.serves("each has its own", "5000=n1", "6000=n2")
			w.refuses("each has its own")
		}
	}
	within(t, several)
	within(t, several, func(c *Config) {
		c.Restored = state.State{Saved: time.Now(), Owners: map[netip.AddrPort]string{local(5000): "consul/a", local(6000): "file/b"}}
	})
	within(t, func(w *world) {
		w.plane.fail(local(6000), syscall.EADDRINUSE)
		several(w)
	})
}

// What the plane binds at some time is looked at, although nobody tells.
func TestLateBindIsNoticed(t *testing.T) {
	within(t, func(w *world) {
		s := svc("web", 9090, "n1", "n2")
		for i := range s.Instances {
			s.Instances[i].Tags = append(s.Instances[i].Tags, "dill.listener=local:8080")
		}
		s.Instances[0].Host, s.Instances[0].Port = "127.0.0.1", 8080
		w.plane.take(local(8080), true)
		w.tell("consul", s)
		w.wait(time.Minute)
		w.serves("not bound", "8080=n2", "9090=n2,n1")
		w.plane.take(local(8080), false)
		w.wait(lookEvery + spacing)
		w.serves("bound", "8080=n2", "9090=n2")
	})
}

// An address that comes to this host makes a backend a listener of dill's: it is
// refused at once, and does not linger.
func TestAddressThatComesToTheHost(t *testing.T) {
	var here atomic.Bool
	within(t, func(w *world) {
		s := svc("web", 6000, "n1", "n2")
		for i := range s.Instances {
			s.Instances[i].Tags[1] = "dill.listener=any:6000"
		}
		s.Instances[0].Host, s.Instances[0].Port = "10.0.0.9", 6000
		s.Instances[1].Health = source.Critical // and has never passed
		w.tell("consul", s)
		w.wait(time.Second)
		w.serves("elsewhere", "6000=n1")
		here.Store(true)
		w.AddressesChanged()
		w.wait(spacing)
		w.serves("here, and n2 is all that is left to try", "6000=n2")
		w.refuses("here", "consul/web: would reach dill itself (0.0.0.0:6000)")

		alone := s
		alone.Instances = s.Instances[:1]
		w.wait(time.Second)
		w.tell("consul", alone)
		w.serves("nobody is left")
		here.Store(false)
		w.AddressesChanged()
		w.wait(spacing)
		w.serves("elsewhere again", "6000=n1")
	}, func(c *Config) {
		c.Settings.Compile.Local = func(a netip.Addr) bool { return a == netip.MustParseAddr("10.0.0.9") && here.Load() }
	})
}

// What dill had bound first it keeps through a restart, unless somebody else has
// the port by then.
func TestBoundFirstOutlivesARestart(t *testing.T) {
	restored := func(c *Config) {
		now := time.Now()
		c.Restored = state.State{Saved: now, Owners: map[netip.AddrPort]string{local(5000): "consul/a", local(6000): "file/b"}, Sources: []state.Source{
			{Name: "consul", Since: now, Services: []source.Service{on(6000, svc("a", 5000, "n1"))}},
			{Name: "file", Since: now, Services: []source.Service{svc("b", 6000, "n2")}},
		}}
	}
	tell := func(w *world) {
		w.tell("consul", on(6000, svc("a", 5000, "n1")))
		w.tell("file", svc("b", 6000, "n2"))
	}
	within(t, func(w *world) {
		for range 3 {
			w.wait(time.Minute)
			w.serves("started again", "6000=n2")
			w.refuses("started again", "consul/a: would reach dill itself (127.0.0.1:6000)")
			tell(w)
		}
	}, restored)
	within(t, func(w *world) {
		w.serves("the port is tried", "5000=n1", "6000=n2")
		w.wait(3 * lookEvery)
		w.serves("somebody has it", "5000=n1")
		w.refuses("somebody has it", "file/b: taken by a backend of consul/a")
	}, restored, func(c *Config) { c.Plane.(*plane).take(local(6000), true) })
}
