package routing

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"go.yaml.in/yaml/v3"

	"dill/controlplane/syntax"
)

// listKey is the one field of a document.
const listKey = "services"

// isListKey tells whether a field is the list: names count in any case.
func isListKey(key string) bool { return strings.EqualFold(key, listKey) }

var errTwoLists = fmt.Errorf("%s is there twice, upper and lower case are the same", listKey)

// tree is a parsed document before anything in it was judged.
type tree struct {
	entries []entry
	unknown []string // top-level fields beside the list, sorted
}

// entry is one element of the list.
type entry struct {
	line  int             // where it begins, 1-based; 0 = unknown
	value any             // nil if there is raw
	raw   json.RawMessage // the element's own text, in JSON
}

// table returns the fields of an entry, or why it is no table.
func (e entry) table() (map[string]any, error) {
	v := e.value
	if e.raw != nil {
		dec := json.NewDecoder(bytes.NewReader(e.raw))
		dec.UseNumber()
		if err := dec.Decode(&v); err != nil {
			return nil, syntax.Describe("json", e.raw, err)
		}
	}
	fields, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("is %s; want a table with name, listener and backends", kindOf(v))
	}
	return lowerKeys(fields)
}

// errNoList is the answer to a document without the list; see the package
// comment for why that does not mean "no services".
var errNoList = fmt.Errorf("no list %q; want a list of services, %s = [] for none", listKey, listKey)

// parse reads the notation. Errors say the line where they can.
func parse(f Format, data []byte) (tree, error) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if len(bytes.TrimSpace(data)) == 0 {
		return tree{}, errors.New("empty document; " + errNoList.Error())
	}
	switch f {
	case TOML:
		return parseTOML(data)
	case YAML:
		return parseYAML(data)
	case JSON:
		return parseJSON(data)
	}
	return tree{}, fmt.Errorf("format %d is none of TOML, YAML, JSON", f)
}

func parseTOML(data []byte) (tree, error) {
	var top map[string]any
	if err := toml.Unmarshal(data, &top); err != nil {
		return tree{}, syntax.Describe("toml", data, err)
	}
	t, elements, err := listed(top)
	if err != nil {
		return tree{}, err
	}
	// The decoder does not tell lines. Where the headers can be counted beyond
	// doubt, they do.
	lines := headerLines(data)
	if len(lines) != len(elements) {
		lines = make([]int, len(elements))
	}
	for i, e := range elements {
		t.entries = append(t.entries, entry{line: lines[i], value: e})
	}
	return t, nil
}

// listed returns the elements of top's list, and a tree with the other fields.
func listed(top map[string]any) (t tree, elements []any, err error) {
	var list any
	found := false
	for key, v := range top {
		switch {
		case !isListKey(key):
			t.unknown = append(t.unknown, key)
		case found:
			return tree{}, nil, errTwoLists
		default:
			list, found = v, true
		}
	}
	if !found {
		return tree{}, nil, errNoList
	}
	slices.Sort(t.unknown)
	elements, ok := list.([]any)
	if !ok {
		return tree{}, nil, fmt.Errorf("%s is %s; want a list", listKey, kindOf(list))
	}
	return t, elements, nil
}

// headerLines returns the lines that read [[services]].
func headerLines(data []byte) []int {
	var lines []int
	n := 0
	for line := range bytes.Lines(data) {
		n++
		line, _, _ = bytes.Cut(line, []byte("#"))
		inner, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("[["))
		if ok && isListKey(string(bytes.TrimSpace(bytes.TrimSuffix(inner, []byte("]]"))))) {
			lines = append(lines, n)
		}
	}
	return lines
}

func parseYAML(data []byte) (tree, error) {
	var doc yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return tree{}, errNoList // comments alone
	} else if err != nil {
		return tree{}, syntax.Describe("yaml", data, err)
	}
	if err := dec.Decode(new(yaml.Node)); err == nil {
		return tree{}, errors.New("more than one document; want one")
	} else if !errors.Is(err, io.EOF) {
		return tree{}, syntax.Describe("yaml", data, err)
	}
	// In one go: the decoder's guard against aliases that multiply counts per
	// call.
	var top map[string]any
	if err := doc.Decode(&top); err != nil {
		return tree{}, syntax.Describe("yaml", data, err)
	}
	t, elements, err := listed(top)
	if err != nil {
		return tree{}, err
	}
	lines := elementLines(&doc, len(elements))
	for i, e := range elements {
		t.entries = append(t.entries, entry{line: lines[i], value: e})
	}
	return t, nil
}

// elementLines returns the line of each of the list's n elements, 0 where it
// cannot be told (a list that came in by a merge key).
func elementLines(doc *yaml.Node, n int) []int {
	lines := make([]int, n)
	if len(doc.Content) == 0 {
		return lines
	}
	top := doc.Content[0]
	for i := 0; i+1 < len(top.Content); i += 2 {
		list := top.Content[i+1]
		if list.Kind == yaml.AliasNode {
			list = list.Alias
		}
		if !isListKey(top.Content[i].Value) || len(list.Content) != n {
			continue
		}
		for j, e := range list.Content {
			lines[j] = e.Line
		}
	}
	return lines
}

func parseJSON(data []byte) (tree, error) {
	if !json.Valid(data) {
		return tree{}, syntax.Describe("json", data, json.Unmarshal(data, new(json.RawMessage)))
	}
	// The document is valid from here on: tokens come without errors.
	dec := json.NewDecoder(bytes.NewReader(data))
	if open, _ := dec.Token(); open != json.Delim('{') {
		return tree{}, fmt.Errorf("no object; want {%q: […]}", listKey)
	}
	var t tree
	found := false
	for dec.More() {
		key, _ := dec.Token()
		switch {
		case !isListKey(key.(string)):
			t.unknown = append(t.unknown, key.(string))
			if err := dec.Decode(new(json.RawMessage)); err != nil {
				return tree{}, err
			}
		case found:
			return tree{}, errTwoLists
		default:
			found = true
			if err := t.addJSON(dec, data); err != nil {
				return tree{}, err
			}
		}
	}
	if !found {
		return tree{}, errNoList
	}
	slices.Sort(t.unknown)
	return t, nil
}

// addJSON adds the elements of the list that dec stands before in data.
func (t *tree) addJSON(dec *json.Decoder, data []byte) error {
	if open, _ := dec.Token(); open != json.Delim('[') {
		return fmt.Errorf("%s is no list; want a list", listKey)
	}
	line, counted := 1, 0
	for dec.More() {
		at := int(dec.InputOffset()) // behind the token before: a comma and space follow
		at += len(data[at:]) - len(bytes.TrimLeft(data[at:], ", \t\r\n"))
		line += bytes.Count(data[counted:at], []byte("\n"))
		counted = at
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
		t.entries = append(t.entries, entry{line: line, raw: raw})
	}
	_, err := dec.Token() // the closing bracket
	return err
}
