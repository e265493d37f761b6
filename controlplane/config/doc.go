// Package config reads dill's settings into a typed Config.
//
// Every setting is one row of the table in keys.go: its name, its default, what
// it means, whether it is a secret and whether a change needs a restart. That
// table alone drives the defaults, the names in the environment, the search for
// unknown keys, what -check prints, what a reload reports, and the reference in
// the README.
//
// A setting comes from the first of these that has it:
//
//  1. the environment: DILL_ and the key in capitals, dots as underscores
//  2. the file given to Load: TOML, YAML, JSON, HCL, env file or Java properties
//  3. the environment variables that Consul's own tools read (CONSUL_HTTP_ADDR, …)
//  4. the default
//
// Layers replace, they never merge: a configured map is the whole map. The
// providers' keys may carry the prefix "routing." in a file and in the
// environment, as in newer releases of the original dill.
//
// Load accepts a configuration completely or not at all. What it refuses is an
// *Error of one line that names the place, the key, the value and what would be
// accepted. Secrets appear in no printed form, not even in an Error.
package config
