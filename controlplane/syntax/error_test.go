package syntax

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/hashicorp/hcl"
	"github.com/magiconair/properties"
	"github.com/pelletier/go-toml/v2"
	"github.com/subosito/gotenv"
	"go.uber.org/goleak"
	"go.yaml.in/yaml/v3"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var parsers = map[string]func([]byte) error{
	"toml": func(b []byte) error { return toml.Unmarshal(b, new(map[string]any)) },
	"yaml": func(b []byte) error { return yaml.Unmarshal(b, new(map[string]any)) },
	"json": func(b []byte) error { return json.Unmarshal(b, new(map[string]any)) },
	"hcl":  func(b []byte) error { _, err := hcl.ParseBytes(b); return err },
	"dotenv": func(b []byte) error {
		_, err := gotenv.StrictParse(strings.NewReader(string(b)))
		return err
	},
	"properties": func(b []byte) error { _, err := properties.Load(b, properties.UTF8); return err },
}

// However a secret gets into the way of a parser, the error has the place and
// what would be right, and none of the secret.
func TestNoContentIsQuoted(t *testing.T) {
	for _, tt := range []struct{ format, content, want string }{
		{"toml", "a = 1\ntoken = s3cr3t", "line 2, column 9: incomplete number; want key = value, with text in quotes"},
		{"toml", "token = \"s3cr3t\nx = 1", "line 1, column 16: basic strings cannot have new lines"},
		{"toml", "token = 12s3cr3t", "line 1, column "},
		{"toml", "n = 99999999999999999999", "line 1, column 5: not understood"},
		{"toml", "a = 1\na = 's3cr3t'", "key a is already defined"},
		{"toml", "'s3cr3t !' = 1\n's3cr3t !' = 2", "not understood"},
		{"yaml", "a: 1\ntoken: *s3cr3t", "line 2, column 8: unknown anchor; want key: value"},
		{"yaml", "token: @s3cr3t", "found character that cannot start any token"},
		{"yaml", "a: 1\ntoken: s3cr3t: x", "line 2: mapping values are not allowed in this context"},
		{"yaml", "s3cr3t", "line 1: not understood; want key: value"},
		{"yaml", "a: !!int s3cr3t", "not understood"},
		{"yaml", "a: &s3cr3t [*s3cr3t]", "value contains itself"},
		{"json", "{\n \"token\": s3cr3t}", "line 2, column 11: invalid character 's' looking for beginning of value"},
		{"json", `["s3cr3t"]`, "not understood; want an object"},
		{"json", `"s3cr3t"`, "not understood; want an object"},
		{"hcl", "a = 1\ntoken = s3cr3t", "line 2, column 9: not understood; want key = value or key { … }, with text in double quotes"},
		{"hcl", "token \"s3cr3t\"", "line 1, column 15: expected start of object ('{') or assignment ('=')"},
		{"hcl", "token = \"s3cr3t", "line 1, column 16: literal not terminated"},
		{"dotenv", "A=1\nTOKEN s3cr3t", "line 2: doesn't match format; want NAME=value"},
		{"dotenv", "A=1\nTOK`EN s3`cr3t", "line 2: doesn't match format"},
		{"dotenv", "TOKEN='s3cr3t", "missing quotes"},
		{"properties", "a = 1\ntoken = s3cr3t\\u00", "line 2: "},
	} {
		err := parsers[tt.format]([]byte(tt.content))
		if err == nil {
			t.Errorf("%s: %q is accepted", tt.format, tt.content)
			continue
		}
		got := Describe(tt.format, []byte(tt.content), err).Error()
		if !strings.HasPrefix(got, tt.want) && !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q: %s\nwant %s", tt.format, tt.content, got, tt.want)
		}
		if strings.Contains(got, "s3cr3t") || strings.Contains(got, "cr3t") || strings.Contains(got, "999") || strings.ContainsAny(got, "\n\r") {
			t.Errorf("%s: %q: content is shown: %s", tt.format, tt.content, got)
		}
	}
}

func TestOwnErrorStays(t *testing.T) {
	own := &Error{Line: 3, Reason: "set twice"}
	if got := Describe("hcl", nil, errors.Join(own)); got != own || got.Error() != "line 3: set twice" {
		t.Errorf("got %v", got)
	}
}
