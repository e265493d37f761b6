// Package mask hides, in text that others wrote, what may be a secret, before the
// text is printed. No list of names says what is one: whatever stands where a
// secret can stand is hidden.
package mask

import (
	neturl "net/url"
	"regexp"
	"strings"
)

// Hidden stands for a secret in everything that is printed.
const Hidden = "***"

var (
	userinfo  = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9+.-]*://)?.*@`)
	authority = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9+.-]*://)([^/?#@\[\]]*:[^/?#@\[\]]*:?[^/?#@]*)`)
)

// URL hides what may be secret in what should be a URL: everything before the @,
// since a token may stand where the user does and have a slash in it, and all that
// a query says.
func URL(s string) string {
	if u, err := neturl.Parse(s); err != nil || u.User != nil || u.Scheme == "" || u.Host == "" || strings.Contains(u.Path, "@") {
		s = userinfo.ReplaceAllString(s, "${1}"+Hidden+"@")
	}
	return query(host(s))
}

// Address is URL for what should be a host and a port: whatever stands before the
// last @ is hidden.
func Address(s string) string { return query(host(User(s))) }

// User hides everything before the last @.
func User(s string) string {
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		return Hidden + s[i:]
	}
	return s
}

// host hides the host of a URL that has more colons than host and port need: a
// user and a password whose @ was forgotten.
func host(s string) string {
	m := authority.FindStringSubmatch(s)
	if m == nil || strings.Count(m[2], ":") < 2 {
		return s
	}
	return m[1] + Hidden + s[len(m[0]):]
}

// query hides the values of a query, whatever they are called. A fragment is
// hidden with them.
func query(s string) string {
	at := strings.IndexAny(s, "?#")
	if at < 0 {
		return s
	}
	at++
	params := strings.Split(s[at:], "&")
	for i, p := range params {
		name, _, named := strings.Cut(p, "=")
		switch {
		case named && s[at-1] == '?':
			params[i] = name + "=" + Hidden
		case p != "":
			params[i] = Hidden
		}
	}
	return s[:at] + strings.Join(params, "&")
}

// Name cuts off what is no part of a name: a value that was written behind it,
// with another separator than the right one.
func Name(s string) string {
	name := strings.TrimLeft(s, " \t")
	lead := len(s) - len(name)
	if i := strings.IndexAny(name, ":= \t"); i >= 0 && strings.Trim(name[i:], " \t") != "" {
		return s[:lead+i] + "…"
	}
	return s
}
