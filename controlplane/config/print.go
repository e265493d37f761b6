package config

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Print writes every setting and where it comes from, secrets masked. What it
// writes is TOML.
func (c *Config) Print(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n", c)
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	section := ""
	for _, k := range keys {
		if s, _, _ := strings.Cut(k.Name, "."); s != section {
			section = s
			tw.Flush()
			b.WriteByte('\n')
		}
		origin := "default"
		if o := c.origins[k.Name]; o != "" {
			origin = o
		}
		fmt.Fprintf(tw, "%s = %s\t# %s\n", k.Name, k.masked(c), oneLine(origin))
	}
	tw.Flush()
	_, err := io.WriteString(w, b.String())
	return err
}

// Reference writes the Markdown table of all settings.
func Reference(w io.Writer) error {
	var b strings.Builder
	b.WriteString("| key | type | default | environment | meaning |\n|---|---|---|---|---|\n")
	for _, k := range keys {
		var env strings.Builder
		env.WriteString("`" + k.Env() + "`")
		for _, cv := range consulVariables {
			if cv.key == k.Name {
				env.WriteString(", `" + cv.name + "`")
			}
		}
		if k.Name == "consul.address" {
			env.WriteString(", `" + consulSSL + "`")
		}
		doc := k.Doc
		if k.Restart {
			doc += "; a change needs a restart"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n",
			k.Name, k.field(new(Config)).kind(), code(k.Default), env.String(), doc)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func code(s string) string {
	if s == "" {
		return "(empty)"
	}
	return "`" + s + "`"
}
