package routing

import (
	"bytes"
	"encoding/json"
	"testing"
)

// FuzzWalk holds the walk through a JSON document to what package json makes of it.
func FuzzWalk(f *testing.F) {
	for _, seed := range []string{
		`{"services":[1, "a,]\"" ,{"b":[{}, []]}]}`, "{\"x\":{\"services\":[]},\n\"services\" :\n[ ]\t}", "{\"services\":[{\n},{\"\n\":1\n}]}", `{"services":{}}`, `[]`, `"x"`, `{"services":[],"services":[]}`,
		`{"\u0073ervices":[-1e5,true,null]}`, `{"services":"`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := parseJSON(data)
		if err != nil {
			return
		}
		var want []json.RawMessage
		var keys map[string]json.RawMessage
		if err := json.Unmarshal(data, &keys); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(keys[listKey], &want); err != nil || len(want) != len(got.entries) {
			t.Fatalf("%d entries, want %d, %v", len(got.entries), len(want), err)
		}
		for i, e := range got.entries {
			if !bytes.Equal(e.raw, want[i]) {
				t.Errorf("entry %d is %q, want %q", i, e.raw, want[i])
			}
			// It is a part of data.
			at := cap(data) - cap(e.raw)
			if line := 1 + bytes.Count(data[:at], []byte("\n")); e.line != line {
				t.Errorf("entry %d is in line %d, want %d", i, e.line, line)
			}
		}
	})
}
