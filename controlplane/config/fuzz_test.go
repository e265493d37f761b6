package config

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzLabels: whatever the environment says of listeners.allowed is refused or
// is a map of valid labels, and what is printed of it reads back the same.
func FuzzLabels(f *testing.F) {
	for _, s := range []string{
		"local=127.0.0.1,any=0.0.0.0", `{"local": "127.0.0.1"}`, "a=::1,", "=", ",", "a=b=c", "{", `{"a":"::1"}x`, `{"a":1,"a":2}`, `{"a, b=.c":"[::1]"}`, "a b=localhost", "a=fe80::1%eth0",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var c Config
		if labels(&c.Listeners.Allowed).set(s) != nil {
			return
		}
		pairs := map[string]string{}
		for label, a := range c.Listeners.Allowed {
			if !validLabel(label) || !bindable(a) {
				t.Fatalf("%q gives %q = %s", s, label, a)
			}
			pairs[label] = a.String()
		}
		text, err := json.Marshal(pairs)
		if err != nil {
			t.Fatal(err)
		}
		var again Config
		if err := labels(&again.Listeners.Allowed).set(string(text)); err != nil {
			t.Fatalf("%q gives %s, which is refused: %v", s, text, err)
		}
		if a, b := labels(&c.Listeners.Allowed).literal(), labels(&again.Listeners.Allowed).literal(); a != b {
			t.Fatalf("%q gives %s, then %s", s, a, b)
		}
	})
}

// FuzzFile: no file makes Load panic, and every refusal is one line.
func FuzzFile(f *testing.F) {
	all := []string{"toml", "yaml", "json", "hcl", "env", "properties"}
	for i, ext := range all {
		b, err := os.ReadFile(filepath.Join("..", "..", "cmd", "dill", "testdata", "config."+ext))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), b)
	}
	f.Fuzz(func(t *testing.T, format uint8, content []byte) {
		path := "dill." + all[int(format)%len(all)]
		file, err := parseFile(path, content)
		if err == nil {
			_, err = stack(path, file, nil)
		}
		if err == nil {
			return
		}
		if _, ok := errors.AsType[*Error](err); !ok || strings.ContainsAny(err.Error(), "\n\r\x00") {
			t.Fatalf("got %T %q", err, err)
		}
	})
}
