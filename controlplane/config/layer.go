package config

import (
	"bytes"
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strings"

	"dill/controlplane/mask"
	"dill/controlplane/regular"
	"dill/controlplane/syntax"
)

// layer is what one place says, under the names of the table.
type layer struct {
	settings map[string]setting // by Key.Name
	sections map[string]bool    // top-level names it mentions, even empty ones
}

// setting is one value and where it was found.
type setting struct {
	value any
	place string // file, or environment variable
	key   string // as spelled in the file; Key.Name for a variable
}

func newLayer() *layer {
	return &layer{settings: map[string]setting{}, sections: map[string]bool{}}
}

// put records s as the value of key, or with an entry as one entry of the map
// that key is. A value that is there already is an error: which of two wins
// should not depend on their order.
func (l *layer) put(k *Key, entry string, s setting) error {
	section, _, _ := strings.Cut(k.Name, ".")
	l.sections[section] = true
	old, set := l.settings[k.Name]
	if entry == "" && !set {
		l.settings[k.Name] = s
		return nil
	}
	entries, isMap := old.value.(map[string]any)
	if entry != "" && (!set || isMap) {
		if !set {
			entries = map[string]any{}
			l.settings[k.Name] = setting{entries, s.place, k.Name}
		}
		if _, twice := entries[entry]; !twice {
			entries[entry] = s.value
			return nil
		}
	}
	also := old.key
	if old.place != s.place {
		also = old.place
	}
	return &Error{s.place, s.key, k.show(s.value), "a setting only once; it is also set as " + also}
}

// fileMost is the longest configuration file, in bytes.
const fileMost = 1 << 20

// readFile reads the file at path; no path is an empty layer.
func readFile(path string) (*layer, error) {
	if path == "" {
		return newLayer(), nil
	}
	if _, ok := formatOf(path); !ok {
		return nil, &Error{Place: path, Want: "want " + wantFormat}
	}
	b, err := regular.Read(path, fileMost)
	if err != nil {
		return nil, &Error{Place: path, Want: err.Error()}
	}
	return parseFile(path, bytes.TrimPrefix(b, []byte("\ufeff")))
}

// parseFile reads b, the content of the file at path, whose name tells the
// format.
func parseFile(path string, b []byte) (*layer, error) {
	format, _ := formatOf(path)
	d, err := codecs.Decoder(format)
	if err != nil {
		return nil, &Error{Place: path, Want: err.Error()}
	}
	tree := map[string]any{}
	if err := d.Decode(b, tree); err != nil {
		return nil, &Error{Place: path, Want: "want valid " + formatName(format) + ": " + syntax.Describe(format, b, err).Error()}
	}
	stringKeys(tree)
	l := newLayer()
	if format == "dotenv" {
		return l, l.addEnvFile(tree, path)
	}
	return l, l.addTree("", tree, path)
}

// addTree records every value in tree, which lies below prefix ("" or "a.b.").
func (l *layer) addTree(prefix string, tree map[string]any, path string) error {
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		if err := l.addNode(prefix+name, tree[name], path); err != nil {
			return err
		}
	}
	return nil
}

func (l *layer) addNode(spelled string, v any, path string) error {
	s := setting{v, path, spelled}
	name := canonical(spelled)
	inner, isTree := v.(map[string]any)
	if label, ok := strings.CutPrefix(name, allowedKey+"."); ok {
		if isTree && len(inner) > 0 {
			// TOML's a.b = "127.0.0.1" is a map in a map, and meant is a.b.
			return l.addTree(spelled+".", inner, path)
		}
		return l.put(keyByName[allowedKey], label, s)
	}
	if k, ok := keyByName[name]; ok {
		switch {
		case v == nil: // `token:` in YAML is how one leaves a value out
			return nil
		case name == allowedKey && isTree && len(inner) > 0:
			return l.addTree(spelled+".", inner, path)
		}
		return l.put(k, "", s)
	}
	if isTree && len(inner) > 0 {
		return l.addTree(spelled+".", inner, path)
	}
	if !isSection(name) {
		return unknownKey(s, name)
	}
	if v != nil && !isTree {
		return &Error{path, oneLine(spelled), "", "want a section with the keys " + within(name)}
	}
	l.sections[name] = true
	return nil
}

// canonical returns the name in the table for a name in a file.
func canonical(spelled string) string {
	name := strings.ToLower(spelled)
	if rest, ok := strings.CutPrefix(name, "routing."); ok && isProvider(rest) {
		return rest
	}
	return name
}

func isSection(name string) bool {
	return name == "routing" || slices.ContainsFunc(keys, func(k Key) bool {
		return strings.HasPrefix(k.Name, name+".")
	})
}

// within lists the keys of a section, without its name.
func within(section string) string {
	var names []string
	for _, k := range keys {
		if rest, ok := strings.CutPrefix(k.Name, section+"."); ok {
			names = append(names, rest)
		}
	}
	return strings.Join(names, ", ")
}

// unknownKey does not show the value: nobody knows what it is. A name without one
// may be the rest of a value that was broken into lines.
func unknownKey(s setting, name string) error {
	names := make([]string, 0, len(keys))
	for _, k := range keys {
		names = append(names, k.Name)
	}
	want, guess := "unknown key", nearest(name, names)
	section, _, _ := strings.Cut(name, ".")
	switch {
	case guess != "":
		want += ", did you mean " + guess + "?"
	case isSection(section) && section != "routing":
		want += "; " + section + " has " + within(section)
	default:
		want += "; the sections are " + sectionNames()
	}
	key := oneLine(mask.Name(mask.Address(s.key)))
	if v, ok := s.value.(string); ok && strings.Trim(v, "=") == "" && !isSection(section) && !strings.HasPrefix(s.key, envPrefix) {
		key = ""
	}
	return &Error{s.place, key, "", want}
}

func sectionNames() string {
	var names []string
	for _, k := range keys {
		section, _, _ := strings.Cut(k.Name, ".")
		if !slices.Contains(names, section) {
			names = append(names, section)
		}
	}
	return strings.Join(names, ", ")
}

// addEnvFile records the lines of an env file, whose names may be spelled as
// variables, with or without DILL_, or as keys.
func (l *layer) addEnvFile(lines map[string]any, path string) error {
	for _, name := range slices.Sorted(maps.Keys(lines)) {
		s := setting{lines[name], path, name}
		k, label := variable(strings.TrimPrefix(strings.ToUpper(name), envPrefix))
		var err error
		if k != nil {
			err = l.put(k, label, s)
		} else {
			err = l.addNode(name, s.value, path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// variable finds the key that a variable (without DILL_) sets, and for one such
// as LISTENERS_ALLOWED_LOCAL the entry, too. Both are zero for an unknown one.
func variable(name string) (k *Key, entry string) {
	if k, ok := keyByEnv[name]; ok {
		return k, ""
	}
	if label, ok := strings.CutPrefix(name, envName(allowedKey)+"_"); ok {
		return keyByName[allowedKey], strings.ToLower(label)
	}
	return nil, ""
}

// serviceLink matches the variables that Kubernetes adds to every container for
// a service whose name begins with "dill".
var serviceLink = regexp.MustCompile(
	`^DILL_(.*_)?(SERVICE_(HOST|PORT(_.*)?)=|PORT(_\d+_[A-Z]+(_(PROTO|PORT|ADDR))?)?=(tcp|udp|sctp|\d+|[0-9a-f.:]+$))`)

// readEnviron reads the variables that begin with DILL_. An empty one counts as
// not set, as is the custom of container images.
func readEnviron(environ []string) (*layer, error) {
	l := newLayer()
	for _, line := range slices.Sorted(slices.Values(environ)) {
		name, v, _ := strings.Cut(line, "=")
		bare, ours := strings.CutPrefix(name, envPrefix)
		if !ours || v == "" {
			continue
		}
		k, entry := variable(bare)
		if k == nil {
			if serviceLink.MatchString(line) {
				continue
			}
			return nil, unknownVariable(name)
		}
		if err := l.put(k, entry, setting{v, name, k.Name}); err != nil {
			return nil, err
		}
	}
	return l, nil
}

func unknownVariable(name string) error {
	var names []string
	for _, k := range keys {
		names = append(names, k.Env())
	}
	guess := nearest(name, names)
	want := "unknown variable, the reference lists those that dill reads"
	if guess != "" {
		want = "unknown variable, did you mean " + guess + "?"
	}
	return &Error{Place: "environment", Key: oneLine(name), Want: want}
}

// formatName is how people call a format.
func formatName(format string) string {
	return cmp.Or(map[string]string{
		"dotenv": "env file lines", "properties": "Java properties",
	}[format], strings.ToUpper(format))
}
