package config

import (
	"fmt"
	neturl "net/url"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Error is why a configuration is refused. It has one line, and nothing secret
// in it.
type Error struct {
	Place string // file name, or environment variable
	Key   string // as spelled there; "" when it is about the whole file
	Value string // printable, shortened, masked; "" when there is none
	Want  string // what would be accepted
}

func (e *Error) Error() string {
	s := e.Place
	if e.Key != "" {
		s += ": " + e.Key
	}
	if e.Value != "" {
		s += " = " + e.Value
	}
	return s + ": " + e.Want
}

// hidden stands for a secret in everything that is printed.
const hidden = "***"

// show prints a value of k for an Error, "" where it could be anything.
func (k *Key) show(v any) string {
	switch {
	case k.Secret:
		return strconv.Quote(hidden)
	case k.field(new(Config)).free():
		return ""
	}
	return show(v)
}

// show prints a value for an Error: on one line, short, and without secrets. Of
// what has values inside it only names the kind.
func show(v any) string {
	switch v := v.(type) {
	case string:
		return strconv.Quote(shorten(mask(v)))
	case nil:
		return "nothing"
	case map[string]any:
		return "a section"
	case []any:
		return "a list"
	}
	return shorten(oneLine(fmt.Sprint(v)))
}

// shorten cuts what is too long to be read.
func shorten(s string) string {
	const most = 80
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most]) + "…"
}

// oneLine replaces line breaks and everything else that cannot be printed.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool {
		return !strconv.IsPrint(r)
	}), " ")
}

var (
	userinfo = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9+.-]*://)?.*@`)
)

// mask hides what may be secret in a URL: everything before the @, since a
// token may stand where the user does, and all that a query says.
func mask(s string) string {
	if u, err := neturl.Parse(s); err != nil || u.User != nil || u.Scheme == "" || u.Host == "" {
		s = userinfo.ReplaceAllString(s, "${1}"+hidden+"@")
	}
	return maskQuery(s)
}

// maskQuery hides the values of a query, whatever they are called: no list of
// names is complete. A fragment is hidden with them.
func maskQuery(s string) string {
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
			params[i] = name + "=" + hidden
		case p != "":
			params[i] = hidden
		}
	}
	return s[:at] + strings.Join(params, "&")
}

// nearest returns the candidate that s was probably meant to be, or "".
func nearest(s string, candidates []string) string {
	best, least := "", 1+len(s)/4
	for _, c := range candidates {
		if d := distance(s, c, least); d <= least && (best == "" || d < least) {
			best, least = c, d
		}
	}
	return best
}

// distance is the number of letters to insert, delete or replace to make b of
// a; more than most if the lengths alone say so.
func distance(a, b string, most int) int {
	if len(a)-len(b) > most || len(b)-len(a) > most || len(a) > 256 {
		return most + 1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
