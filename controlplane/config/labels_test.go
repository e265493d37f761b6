package config

import (
	"maps"
	"net/netip"
	"strings"
	"testing"
)

// TestLabelsAreOpaque: a label is the user's own word, dots and spaces included,
// wherever it is written.
func TestLabelsAreOpaque(t *testing.T) {
	want := map[string]netip.Addr{"my.label": addr("10.0.0.1"), "two words": addr("::1"), "-x:y": addr("127.0.0.1")}
	for _, tt := range []struct{ name, file, content, environ string }{
		{name: "toml", file: "c.toml", content: "[listeners.allowed]\n'my.label' = '10.0.0.1'\n'Two Words' = '[::1]'\n'-x:y' = 'localhost'"},
		{name: "toml bare", file: "c.toml", content: "[listeners.allowed]\nmy.label = '10.0.0.1'\n'two words' = '::1'\n'-x:y' = 'LOCALHOST'"},
		{name: "yaml", file: "c.yaml", content: "listeners:\n  allowed:\n    my.label: 10.0.0.1\n    two words: '[::1]'\n    -x:y: localhost"},
		{name: "json", file: "c.json", content: `{"listeners": {"allowed": {"my.label": "10.0.0.1", "two words": "[::1]", "-x:y": "localhost"}}}`},
		{name: "hcl", file: "c.hcl", content: "listeners { allowed { \"my.label\" = \"10.0.0.1\"\n \"two words\" = \"[::1]\"\n \"-x:y\" = \"localhost\" } }"},
		{name: "properties", file: "c.properties", content: "listeners.allowed.my.label=10.0.0.1\nlisteners.allowed.two\\ words=[::1]\nlisteners.allowed.-x\\:y=localhost"},
		{name: "env file", file: "c.env", content: "DILL_LISTENERS_ALLOWED='my.label=10.0.0.1, two words = [::1], -x:y=localhost'"},
		{name: "env file json", file: "c.env", content: `DILL_LISTENERS_ALLOWED='{"my.label": "10.0.0.1", "two words": "[::1]", "-x:y": "localhost"}'`},
		{name: "environment", environ: "DILL_LISTENERS_ALLOWED=my.label=10.0.0.1,two words=[::1],-x:y=localhost"},
		{name: "environment json", environ: `DILL_LISTENERS_ALLOWED={"my.label": "10.0.0.1", "two words": "[::1]", "-x:y": "localhost"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := ""
			if tt.file != "" {
				path = write(t, tt.file, tt.content)
			}
			if got := mustLoad(t, path, tt.environ).Listeners.Allowed; !maps.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

// TestLabelWithEquals: in pairs too, since an address holds none.
func TestLabelWithEquals(t *testing.T) {
	got := mustLoad(t, "", "DILL_LISTENERS_ALLOWED=a=b=127.0.0.1").Listeners.Allowed
	if want := map[string]netip.Addr{"a=b": addr("127.0.0.1")}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestPrintedLabelsLoad: what -check prints of labels is TOML that means the same.
func TestPrintedLabelsLoad(t *testing.T) {
	c := mustLoad(t, "", `DILL_LISTENERS_ALLOWED={"my.label":"10.0.0.1","two words":"::1","a\"b\\c":"10.0.0.2","plain":"10.0.0.3"}`)
	var out strings.Builder
	if err := c.Print(&out); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		if strings.HasPrefix(line, "listeners.allowed") {
			if got := mustLoad(t, write(t, "c.toml", line)).Listeners.Allowed; !maps.Equal(got, c.Listeners.Allowed) {
				t.Errorf("%s gives %v", line, got)
			}
			return
		}
	}
	t.Error("no labels printed")
}
