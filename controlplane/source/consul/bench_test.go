package consul

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"dill/controlplane/source"
)

// BenchmarkCatalog is what a change in a catalog of 2,000 services costs, from
// Consul's answer to the snapshot.
func BenchmarkCatalog(b *testing.B) {
	all := make(map[string][]string)
	s, err := New(Config{}, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	one := newSession(b.Context(), s, nil, newView(s, func(source.Snapshot) {}))
	for i := range 2000 {
		name := serviceName(i)
		all[name] = []string{"dill", fmt.Sprint("dill.listener=local:", 3000+i)}
		one.view.services[name] = &tracked{name: name, tags: all[name], last: source.Service{Name: name, Instances: make([]source.Instance, 1)}}
	}
	body, err := json.Marshal(all)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var c map[string][]string
			if err := json.Unmarshal(body, &c); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("asking", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			asking(all)
		}
	})
	b.Run("reconcile", func(b *testing.B) {
		b.ReportAllocs()
		found := asking(all)
		for b.Loop() {
			one.reconcile(found, false, false)
		}
	})
	b.Run("emit", func(b *testing.B) {
		b.ReportAllocs()
		now := time.Now()
		for b.Loop() {
			one.view.dirty = true
			now = now.Add(time.Second)
			one.view.emit(now)
		}
	})
}
