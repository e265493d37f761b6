package config

import (
	"strconv"

	"dill/controlplane/mask"
)

// Change is a setting that differs between two configurations.
type Change struct {
	Key      string
	Old, New string // as one would write them in the environment, secrets masked
	Restart  bool   // takes effect only at the next start
}

// Changes lists what is different in new, in the order of the reference.
func Changes(old, new *Config) []Change {
	var changes []Change
	for _, k := range keys {
		if was, is := k.field(old), k.field(new); was.literal() != is.literal() {
			changes = append(changes, Change{k.Name, k.text(old), k.text(new), k.Restart})
		}
	}
	return changes
}

// NeedsRestart returns the keys among changes that take effect only at the next
// start.
func NeedsRestart(changes []Change) []string {
	var names []string
	for _, c := range changes {
		if c.Restart {
			names = append(names, c.Key)
		}
	}
	return names
}

// masked returns the key's value in c as TOML, fit to be printed.
func (k Key) masked(c *Config) string {
	v := k.field(c)
	if k.Secret && v.literal() != `""` {
		return `"` + mask.Hidden + `"`
	}
	return v.masked()
}

// text returns the key's value in c as one would write it in the environment,
// fit to be printed.
func (k Key) text(c *Config) string {
	if m, ok := k.field(c).(labelMap); ok {
		return m.pairs()
	}
	return unquoted(k.masked(c))
}

// unquoted takes the quotes off a literal that has some.
func unquoted(literal string) string {
	if s, err := strconv.Unquote(literal); err == nil {
		return s
	}
	return literal
}

// SourceAddress returns where a source of Sources is to be asked, fit to be
// printed: secrets are masked.
func (c *Config) SourceAddress(name string) string {
	key := map[string]string{
		"file": "file.path", "consul": "consul.address", "nomad": "nomad.address", "http": "http.endpoint",
	}[name]
	return keyByName[key].text(c)
}
