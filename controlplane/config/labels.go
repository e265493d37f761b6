package config

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	labelMost  = 255  // bytes in a label
	labelsMost = 1024 // labels in a configuration
)

const (
	wantLabels = `labels and IP addresses, as a map, as JSON or as "local=127.0.0.1,any=0.0.0.0"`
	wantLabel  = "a label of characters that print, at most 255 bytes of them"
	wantIP     = "an IP address of this host, such as 127.0.0.1, 0.0.0.0 or ::1, or localhost"
)

// labels is a map from label to the address it stands for.
func labels(field *map[string]netip.Addr) value { return labelMap{field} }

type labelMap struct{ field *map[string]netip.Addr }

func (l labelMap) kind() string { return "map of labels to IP addresses" }
func (l labelMap) want() string { return wantLabels }
func (l labelMap) free() bool   { return false }

func (l labelMap) masked() string { return l.literal() }

func (l labelMap) literal() string {
	var b strings.Builder
	b.WriteString("{ ")
	for i, label := range slices.Sorted(maps.Keys(*l.field)) {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(tomlKey(label) + " = " + strconv.Quote((*l.field)[label].String()))
	}
	b.WriteString(" }")
	return b.String()
}

// pairs is the map as in "local=127.0.0.1,any=0.0.0.0", sorted.
func (l labelMap) pairs() string {
	var pairs []string
	for _, label := range slices.Sorted(maps.Keys(*l.field)) {
		pairs = append(pairs, label+"="+(*l.field)[label].String())
	}
	return strings.Join(pairs, ",")
}

func (l labelMap) set(raw any) error {
	var entries map[string]any
	switch v := raw.(type) {
	case map[string]any:
		entries = v
	case string:
		var ok bool
		if entries, ok = parseMap(v); !ok {
			return errWant
		}
	}
	if len(entries) == 0 || len(entries) > labelsMost {
		return errWant // without a label no service could ever get a port
	}
	m := make(map[string]netip.Addr, len(entries))
	for _, label := range slices.Sorted(maps.Keys(entries)) {
		v := entries[label]
		name := strings.ToLower(label)
		if !validLabel(name) {
			return &entryError{label, v, wantLabel}
		}
		if _, twice := m[name]; twice {
			return &entryError{label, v, "each label once (upper and lower case are the same)"}
		}
		text, _ := v.(string)
		addr, ok := hostAddress(text)
		if !ok {
			return &entryError{label, v, wantIP}
		}
		m[name] = addr
	}
	*l.field = m
	return nil
}

// validLabel accepts all that can stand before the last colon of a
// dill.listener tag. What a label says is the user's business.
func validLabel(s string) bool {
	return s != "" && len(s) <= labelMost && printable(s) && utf8.ValidString(s)
}

// tomlKey writes a label as a key in TOML: in quotes unless it is a bare key.
func tomlKey(label string) string {
	bare := strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") == ""
	if bare {
		return label
	}
	return strconv.Quote(label)
}

// hostAddress reads the address that a label stands for, in the forms that
// net.Listen takes, but without a name server.
func hostAddress(s string) (netip.Addr, bool) {
	s = strings.TrimSpace(s)
	if strings.EqualFold(s, localhost) {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1}), true
	}
	if inner, ok := strings.CutPrefix(s, "["); ok {
		six, closed := strings.CutSuffix(inner, "]")
		if !closed || !strings.Contains(six, ":") {
			return netip.Addr{}, false
		}
		s = six
	}
	addr, err := netip.ParseAddr(s)
	return addr.Unmap(), err == nil && bindable(addr)
}

// parseMap reads a map from one string: a JSON object, or pairs a=x,b=y. In
// pairs, spaces around names and values and a trailing comma do not matter. It
// fails on anything else and on a name that comes twice. A name may hold a =, an
// address never does.
func parseMap(s string) (map[string]any, bool) {
	s = strings.TrimSpace(s)
	if strings.HasPrefix(s, "{") {
		return parseJSONMap(s)
	}
	m := map[string]any{}
	for pair := range strings.SplitSeq(strings.TrimSuffix(s, ","), ",") {
		i := strings.LastIndexByte(pair, '=')
		if i < 0 {
			return nil, false
		}
		name := strings.TrimSpace(pair[:i])
		if _, twice := m[name]; twice || name == "" {
			return nil, false
		}
		m[name] = strings.TrimSpace(pair[i+1:])
	}
	return m, true
}

// parseJSONMap is json.Unmarshal but for names that come twice: encoding/json
// would silently keep the last.
func parseJSONMap(s string) (map[string]any, bool) {
	dec := json.NewDecoder(strings.NewReader(s))
	if _, err := dec.Token(); err != nil {
		return nil, false
	}
	m := map[string]any{}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, false
		}
		key, ok := name.(string)
		if _, twice := m[key]; !ok || twice {
			return nil, false
		}
		var v any
		if err := dec.Decode(&v); err != nil {
			return nil, false
		}
		m[key] = v
	}
	if _, err := dec.Token(); err != nil { // the closing brace
		return nil, false
	}
	_, err := dec.Token()
	return m, errors.Is(err, io.EOF)
}
