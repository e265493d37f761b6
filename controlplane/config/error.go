package config

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"dill/controlplane/mask"
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

// show prints a value of k for an Error, "" where it could be anything.
func (k *Key) show(v any) string {
	switch {
	case k.Secret:
		return strconv.Quote(mask.Hidden)
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
		return strconv.Quote(shorten(mask.URL(v)))
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
