package routing

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"dill/controlplane/source"
)

// FuzzDecode holds any bytes in any format to what Decode promises: no panic,
// one-line messages, sorted services with unique instance IDs, and the same
// answer for the same document.
func FuzzDecode(f *testing.F) {
	names, err := filepath.Glob("testdata/*.*")
	if err != nil || len(names) == 0 {
		f.Fatal(names, err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		format, _ := FormatOf(name)
		f.Add(uint8(format), data)
	}
	f.Add(uint8(YAML), []byte("services: &a\n- <<: *a\n- {name: 2001-01-01, ? [x] : y}\n"))
	f.Add(uint8(JSON), []byte(`{"services":[{"name":1e999,"listener":[[]],"backends":{"a":null}}]}`))
	f.Add(uint8(TOML), []byte("services = [1979-05-27, nan, {name = +inf}]"))

	f.Fuzz(func(t *testing.T, format uint8, data []byte) {
		doc, err := Decode(Format(format%3+1), data)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r") || err.Error() == "" {
				t.Errorf("error is not one line: %q", err)
			}
			return
		}
		for _, p := range doc.Problems {
			if strings.ContainsAny(p.Error(), "\n\r\x00\x1b") {
				t.Errorf("problem is not one clean line: %q", p)
			}
		}
		if !slices.IsSortedFunc(doc.Services, func(a, b source.Service) int { return strings.Compare(a.Name, b.Name) }) {
			t.Error("services are not sorted")
		}
		for _, s := range doc.Services {
			ids := make(map[string]bool)
			for _, in := range s.Instances {
				if ids[in.ID] {
					t.Errorf("instance %q is there twice", in.ID)
				}
				ids[in.ID] = true
				if len(in.Tags) < 2 || in.Tags[0] != "dill" || !strings.HasPrefix(in.Tags[1], listenerTag) {
					t.Errorf("tags %q ask for no listener", in.Tags)
				}
				if in.CreateIndex < s.CreateIndex {
					t.Errorf("instance index %d below its service's %d", in.CreateIndex, s.CreateIndex)
				}
			}
		}
		var m Memory
		if _, err := m.Decode(Format(format%3+1), data); err != nil {
			t.Error(err)
		}
		again, err := m.Decode(Format(format%3+1), data)
		if err != nil || !reflect.DeepEqual(again, doc) {
			t.Errorf("decoded again it is %+v, %v\nbefore %+v", again, err, doc)
		}
	})
}
