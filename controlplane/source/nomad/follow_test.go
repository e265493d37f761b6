package nomad

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"dill/controlplane/source"
	"dill/controlplane/source/sourcetest"
)

func newSource(t *testing.T, o Options, log *sourcetest.Log) *Source {
	t.Helper()
	if o.Wait == 0 {
		o.Wait = time.Minute
	}
	s, err := New(o, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// follow runs a Source until the test ends. adjust, if not nil, sees it before.
func follow(t *testing.T, o Options, adjust func(*Source)) *sourcetest.Follower {
	t.Helper()
	log := new(sourcetest.Log)
	s := newSource(t, o, log)
	if adjust != nil {
		adjust(s)
	}
	return sourcetest.Follow(t, s, log, show)
}

// show writes a snapshot as "web:2 api:1": services and how many instances they
// have, behind sourcetest.Marks.
func show(s source.Snapshot) string {
	var services []string
	for _, svc := range s.Services {
		services = append(services, fmt.Sprintf("%s:%d", svc.Name, len(svc.Instances)))
	}
	return sourcetest.Marks(s) + strings.Join(services, " ")
}
