package routing

import (
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"dill/controlplane/source"
)

// Whatever was decoded before, the result is the same: over random changes of a
// document with entries that are right, wrong, repeated and for one service.
func TestMemoryChangesNoResult(t *testing.T) {
	pool := []string{
		`{"name":"web","listener":"local:80","backends":["10.0.0.2:80","10.0.0.1:80"]}`,
		`{"name":"web","listener":"local:81","backends":["10.0.0.1:80","10.0.0.1:80","10.0.0.3:80"],"strategy":"random"}`,
		`{"name":"db","listener":["local:1","local:2"],"backends":[{"address":"db:5432","weight":3}]}`,
		`{"name":"db","listener":"local:1"}`,
		`{"name":"","listener":"local:1","backends":["a:1"]}`,
		`{"listener":"local:1","backends":["a:1"],"weight":1e2}`,
		`{"name":"odd","listener":"local:x","backends":["a","b:0"],"what":true}`,
		`null`, `[]`, `7`,
	}
	random := rand.New(rand.NewPCG(1, 2))
	var m Memory
	var entries []string
	for i := range 500 {
		switch n := len(entries); {
		case n == 0 || n < 12 && random.IntN(2) == 0:
			entries = append(entries, pool[random.IntN(len(pool))])
		case random.IntN(3) == 0:
			entries = entries[:n-1]
		default:
			entries[random.IntN(n)] = pool[random.IntN(len(pool))]
		}
		data := []byte(`{"services":[` + strings.Join(entries, ",\n ") + `]}`)
		if random.IntN(20) == 0 {
			data = append(data, '!') // no document at all, in between
		}
		got, gotErr := m.Decode(JSON, data)
		want, wantErr := Decode(JSON, data)
		if !reflect.DeepEqual(got, want) || (gotErr == nil) != (wantErr == nil) {
			t.Fatalf("step %d, %s\nis  %+v, %v\nwas %+v, %v", i, data, got, gotErr, want, wantErr)
		}
	}
}

// What did not change is handed on as it is, so that nobody has to look at it.
func TestMemoryHandsOnWhatDidNotChange(t *testing.T) {
	var m Memory
	first, err := m.Decode(JSON, large(JSON, 3000))
	if err != nil {
		t.Fatal(err)
	}
	second, err := m.Decode(JSON, large(JSON, 3001))
	if err != nil {
		t.Fatal(err)
	}
	for i := range first.Services {
		if same := source.SameMemory(first.Services[i].Instances, second.Services[i].Instances); same != (i > 0) {
			t.Fatalf("service %d: handed on: %v", i, same)
		}
	}
}
