package routing

import "testing"

func TestFormatOf(t *testing.T) {
	for name, want := range map[string]Format{
		"routes.toml": TOML, "/etc/dill/routes.YAML": YAML, "a.b.yml": YAML, "/v1/routes.json": JSON,
		"routes": 0, "routes.conf": 0, "toml": 0, "": 0,
	} {
		if got, ok := FormatOf(name); got != want || ok != (want != 0) {
			t.Errorf("FormatOf(%q) = %s, %t, want %s", name, got, ok, want)
		}
	}
}

func TestFormatOfMedia(t *testing.T) {
	for media, want := range map[string]Format{
		"application/json":                     JSON,
		"application/json; charset=utf-8":      JSON,
		"Application/Vnd.acme.routes+JSON":     JSON,
		"application/yaml":                     YAML,
		"application/x-yaml":                   YAML,
		"text/x-yaml; charset=utf-8":           YAML,
		"text/yaml":                            YAML,
		"application/toml":                     TOML,
		"text/x-toml":                          TOML,
		"text/plain; charset=utf-8":            0,
		"application/octet-stream":             0,
		"text/html":                            0,
		"":                                     0,
		"nonsense":                             0,
		"application/json; charset=\"unclosed": 0,
	} {
		if got, ok := FormatOfMedia(media); got != want || ok != (want != 0) {
			t.Errorf("FormatOfMedia(%q) = %s, %t, want %s", media, got, ok, want)
		}
	}
}
