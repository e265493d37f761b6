package config

// Change is a setting that differs between two configurations.
type Change struct {
	Key      string
	Old, New string // as TOML, secrets masked
	Restart  bool   // takes effect only at the next start
}

// Changes lists what is different in new, in the order of the reference.
func Changes(old, new *Config) []Change {
	var changes []Change
	for _, k := range keys {
		if was, is := k.field(old), k.field(new); was.literal() != is.literal() {
			changes = append(changes, Change{k.Name, k.masked(old), k.masked(new), k.Restart})
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
		return `"` + hidden + `"`
	}
	return v.masked()
}
