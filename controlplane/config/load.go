package config

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/viper"
)

// Load reads the file at path ("" for none) and the environment, and returns the
// settings they and the defaults add up to. The error is an *Error. Load may be
// called again at any time and keeps nothing between calls.
func Load(path string) (*Config, error) { return LoadWith(path, os.Environ()) }

// LoadWith is Load with an environment of the caller's own, in the form of
// os.Environ.
func LoadWith(path string, environ []string) (*Config, error) {
	file, err := readFile(path)
	if err != nil {
		return nil, err
	}
	return stack(path, file, environ)
}

// stack puts the environment on the file at path, and both on the defaults.
func stack(path string, file *layer, environ []string) (*Config, error) {
	env, err := readEnviron(environ)
	if err != nil {
		return nil, err
	}
	l := &loader{
		file: file, env: env, viper: viper.New(),
		config: &Config{path: path, origins: map[string]string{}},
	}
	if err := l.settings(); err != nil {
		return nil, err
	}
	l.sources()
	if err := l.consulVariables(environ); err != nil {
		return nil, err
	}
	if err := l.check(); err != nil {
		return nil, err
	}
	return l.config, nil
}

// loader is one call of LoadWith.
type loader struct {
	file, env *layer
	viper     *viper.Viper
	config    *Config
}

// settings stacks file and environment on the defaults and fills the Config.
// The environment goes in as Viper's overrides and not through BindEnv, which
// could neither name an unknown variable nor tell where a value came from.
func (l *loader) settings() error {
	for _, k := range keys {
		l.viper.SetDefault(k.Name, k.Default)
	}
	if err := l.viper.MergeConfigMap(nested(l.file.settings)); err != nil {
		return fmt.Errorf("merge %s: %w", l.config.path, err)
	}
	for name, s := range l.env.settings {
		l.viper.Set(name, s.value)
	}
	for i := range keys {
		if err := l.fill(&keys[i]); err != nil {
			return err
		}
	}
	return nil
}

// nested turns dotted names into the maps in maps that Viper works on.
func nested(settings map[string]setting) map[string]any {
	root := map[string]any{}
	for name, s := range settings {
		m := root
		parts := strings.Split(name, ".")
		last := len(parts) - 1
		for _, p := range parts[:last] {
			inner, ok := m[p].(map[string]any)
			if !ok {
				inner = map[string]any{}
				m[p] = inner
			}
			m = inner
		}
		m[parts[last]] = s.value
	}
	return root
}

// fill sets the field of one key to what Viper says it is.
func (l *loader) fill(k *Key) error {
	s := l.found(k.Name)
	if s.place != "" {
		l.config.origins[k.Name] = s.place
	}
	field, raw := k.field(l.config), l.viper.Get(k.Name)
	err := field.set(raw)
	if err == nil {
		return nil
	}
	if s.place == "" {
		panic("dill: BUG: default of " + k.Name + " is not accepted: " + err.Error())
	}
	if e, ok := errors.AsType[*entryError](err); ok {
		return &Error{s.place, oneLine(s.key + "." + e.entry), show(e.value), "want " + e.want}
	}
	return &Error{s.place, s.key, k.show(raw), "want " + field.want()}
}

// found returns where the value of a key comes from; its place is "" for a
// default.
func (l *loader) found(name string) setting {
	if s, ok := l.env.settings[name]; ok {
		return s
	}
	if s, ok := l.file.settings[name]; ok {
		return s
	}
	return setting{place: l.config.origins[name], key: name}
}

// sources decides which route sources run: those that are configured, or
// Consul where the configuration says nothing.
func (l *loader) sources() {
	c := l.config
	c.Nomad.Enabled = l.file.sections["nomad"] || l.env.sections["nomad"]
	c.Consul.Enabled = l.file.sections["consul"] || l.env.sections["consul"]
	if len(c.Sources()) == 0 {
		c.Consul.Enabled = true
	}
}
