package publish

import (
	"slices"
	"testing"
	"time"

	"dill/controlplane/source"
)

// What waits is named, with the time until which it does.
func TestStatusNamesWhatWaits(t *testing.T) {
	within(t, func(w *world) {
		w.tell("consul", svc("api", 5001, "n1"), svc("web", 5000, "n1", "n2"))
		w.wait(time.Hour)
		w.send(source.Snapshot{Source: "consul", Synced: true, Suspect: true, Services: []source.Service{svc("api", 5001, "n1"), svc("web", 5000, "n2")}})
		first := time.Now().Add(DefaultSettle)
		w.wait(10 * time.Second)
		w.send(source.Snapshot{Source: "consul", Synced: true, Suspect: true, Services: []source.Service{svc("web", 5000, "n2")}})
		want := []Settling{{"web", "n1", first}, {"api", "n1", first.Add(10 * time.Second)}}
		if got := w.Status().Sources[0].Settling; !slices.Equal(got, want) {
			t.Errorf("settling %v, want %v", got, want)
		}
		w.wait(21 * time.Second)
		if got := w.Status().Sources[0].Settling; !slices.Equal(got, want[1:]) {
			t.Errorf("settling %v, want %v", got, want[1:])
		}
	})
}

// So are the listeners that are held, with the next time that the source is
// asked about them.
func TestStatusNamesWhatIsHeld(t *testing.T) {
	within(t, func(w *world) {
		w.consul.delay = time.Second
		w.tell("consul", many(8, "")...)
		w.wait(time.Minute)
		w.tell("consul", many(2, "")...)
		var ports []uint16
		for _, addr := range w.Status().Sources[0].Held {
			ports = append(ports, addr.Port())
		}
		if want := []uint16{5002, 5003, 5004, 5005, 5006, 5007}; !slices.Equal(ports, want) {
			t.Errorf("held %v, want %v", ports, want)
		}
		if at := w.Status().Sources[0].AskedAt; !at.IsZero() {
			t.Errorf("asked again at %v although a read is under way", at)
		}
		w.wait(time.Second)
		if at := w.Status().Sources[0].AskedAt; !at.Equal(time.Now().Add(confirmRetry)) {
			t.Errorf("asked again at %v, now is %v", at, time.Now())
		}
	})
}
