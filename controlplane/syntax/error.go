// Package syntax words what the parsers of file formats complain about. They
// quote the line they choke on, and what stands there may be a secret: a token
// without its quotes, most likely. So of a parser's message only the place is
// taken over, and the sentence if it is one that the parser has for every file.
package syntax

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	hcl "github.com/hashicorp/hcl/hcl/parser"
	"github.com/pelletier/go-toml/v2"
)

// Error is a mistake in a file, with nothing of the file's content in it.
type Error struct {
	Line, Column int    // 1-based; 0 = unknown
	Reason       string // what is wrong, and what would be right
}

func (e *Error) Error() string {
	switch {
	case e.Line == 0:
		return e.Reason
	case e.Column == 0:
		return fmt.Sprintf("line %d: %s", e.Line, e.Reason)
	}
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Reason)
}

// Describe returns what err, of the parser of the format, says about the file's
// content. The format is one of toml, yaml, json, hcl, dotenv, properties. An
// *Error in err is returned as it is.
func Describe(format string, content []byte, err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	e := new(Error)
	e.Line, e.Column = place(content, err)
	e.Reason = reason(format, err)
	return e
}

// place finds where in content err is, as far as it tells.
func place(content []byte, err error) (line, column int) {
	if e, ok := errors.AsType[*toml.DecodeError](err); ok {
		return e.Position()
	}
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return position(content, int(e.Offset)-1) // of the last byte read
	}
	if e, ok := errors.AsType[*hcl.PosError](err); ok {
		return e.Pos.Line, e.Pos.Column
	}
	text := err.Error()
	if m := numbered.FindStringSubmatch(text); m != nil {
		line, _ = strconv.Atoi(m[1])
		return line, 0
	}
	if m := anchor.FindStringSubmatch(text); m != nil {
		if at := bytes.Index(content, []byte("*"+m[1])); at >= 0 {
			return position(content, at)
		}
	}
	if strings.HasPrefix(text, "line `") {
		return quotedLine(content, text), 0
	}
	return 0, 0
}

var (
	// numbered begins the messages of YAML and properties.
	numbered = regexp.MustCompile(`^(?:yaml: |properties: )?(?:unmarshal errors:\s+)?[Ll]ine (\d+): `)

	// anchor is YAML's only message with a place that it does not name.
	anchor = regexp.MustCompile(`unknown anchor '(.*)' referenced`)
)

// position returns the line and column of the byte at offset.
func position(content []byte, offset int) (line, column int) {
	before := content[:max(min(offset, len(content)), 0)]
	return 1 + bytes.Count(before, []byte("\n")), len(before) - bytes.LastIndexByte(before, '\n')
}

// quotedLine returns the number of the line that text quotes, 0 if none.
func quotedLine(content []byte, text string) int {
	found, longest, n := 0, 0, 0
	for line := range bytes.Lines(content) {
		n++
		line = bytes.TrimSpace(line)
		if len(line) > longest && strings.Contains(text, string(line)) {
			found, longest = n, len(line)
		}
	}
	return found
}

// reason returns the parser's own sentence if it is known, and what the format
// wants otherwise.
func reason(format string, err error) string {
	text := err.Error()
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return e.Error() // quotes one character
	}
	if m := defined.FindStringSubmatch(text); m != nil {
		return m[1]
	}
	best := ""
	for _, s := range sentences[format] {
		if len(s) > len(best) && strings.Contains(text, s) {
			best = s
		}
	}
	want := wants[format]
	if best == "" {
		return "not understood; want " + want
	}
	return best + "; want " + want
}

// defined is what TOML and YAML say of a key, which is a name and no value.
var defined = regexp.MustCompile(`((?:key|table) "?[A-Za-z0-9_.-]{1,64}"? (?:is already defined|already exists|already defined))`)

// wants says what a line of a format looks like.
var wants = map[string]string{
	"toml":       `key = value, with text in quotes`,
	"yaml":       `key: value, with text in quotes where it has special characters`,
	"json":       `an object`,
	"hcl":        `key = value or key { … }, with text in double quotes`,
	"dotenv":     `NAME=value`,
	"properties": `key = value`,
}
