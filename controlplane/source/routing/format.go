package routing

import (
	"mime"
	"path"
	"strings"
)

// Format is the notation of a document.
type Format uint8

const (
	TOML Format = iota + 1
	YAML
	JSON
)

func (f Format) String() string {
	switch f {
	case TOML:
		return "toml"
	case YAML:
		return "yaml"
	case JSON:
		return "json"
	}
	return "unknown"
}

// Extensions is what FormatOf accepts, for error messages.
const Extensions = ".toml, .yaml, .yml or .json"

// FormatOf returns the format that the extension of a file name or of a URL's
// path stands for, and false if it is none of Extensions.
func FormatOf(name string) (Format, bool) {
	switch strings.ToLower(path.Ext(name)) {
	case ".toml":
		return TOML, true
	case ".yaml", ".yml":
		return YAML, true
	case ".json":
		return JSON, true
	}
	return 0, false
}

// FormatOfMedia returns the format that a Content-Type names, and false if it
// names none: servers call a file they do not know text/plain.
func FormatOfMedia(contentType string) (Format, bool) {
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return 0, false
	}
	_, subtype, _ := strings.Cut(media, "/")
	subtype = strings.TrimPrefix(subtype, "x-")
	if i := strings.LastIndexByte(subtype, '+'); i >= 0 {
		subtype = subtype[i+1:] // application/vnd.acme.routes+json
	}
	switch subtype {
	case "toml":
		return TOML, true
	case "yaml", "yml":
		return YAML, true
	case "json":
		return JSON, true
	}
	return 0, false
}
