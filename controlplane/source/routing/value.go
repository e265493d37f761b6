package routing

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"dill/controlplane/mask"
)

// text returns a scalar as one would write it in a tag, false for anything
// else.
func text(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case int:
		return strconv.Itoa(v), true
	case int64:
		return strconv.FormatInt(v, 10), true
	case uint64:
		return strconv.FormatUint(v, 10), true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	case json.Number:
		return v.String(), true
	}
	return "", false
}

// listOf returns v as a list: a single value is a list of one.
func listOf(v any) []any {
	switch v := v.(type) {
	case nil:
		return nil
	case []any:
		return v
	}
	return []any{v}
}

// kindOf names what v is, for a message about what it should be.
func kindOf(v any) string {
	switch v.(type) {
	case nil:
		return "empty"
	case string:
		return "a string"
	case bool:
		return "a boolean"
	case int, int64, uint64, float64, json.Number:
		return "a number"
	case []any:
		return "a list"
	case map[string]any, map[any]any:
		return "a table"
	}
	return "a date"
}

// lowerKeys returns fields with their names in lower case, in which they are
// looked up. One that is there in two ways is an error, and none of them counts.
func lowerKeys(fields map[string]any) (map[string]any, error) {
	mixed := false
	for key := range fields {
		mixed = mixed || key != strings.ToLower(key)
	}
	if !mixed {
		return fields, nil
	}
	out := make(map[string]any, len(fields))
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		name := strings.ToLower(key)
		if _, twice := out[name]; twice {
			return nil, fmt.Errorf("%s is there twice, upper and lower case are the same", quoted(name))
		}
		out[name] = fields[key]
	}
	return out, nil
}

// missing words what is wrong with a field that must be there.
func missing(fields map[string]any, field string) string {
	v, ok := fields[field]
	switch s, isText := v.(string); {
	case !ok:
		return "missing"
	case isText && s != "":
		return "blank"
	case isText:
		return "empty"
	}
	if list, ok := v.([]any); ok && len(list) == 0 {
		return "an empty list"
	}
	return kindOf(v)
}

// quoted makes foreign text fit for one line of a message. What looks like the
// credentials of a URL is masked: one may have been written into any field.
func quoted(s string) string {
	const most = 64
	s = mask.Address(s)
	if len(s) > most {
		return strconv.Quote(s[:most]) + "…"
	}
	return strconv.Quote(s)
}
