package compile

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"dill/controlplane/mask"
)

const (
	maxReason = 200 // bytes of a Refusal's Reason
	maxShown  = 80  // bytes of foreign text in any other field, or in a Reason
)

// reason formats a Refusal's Reason: one printable line of at most maxReason
// bytes. Foreign text among args has been through show.
func reason(format string, args ...any) string {
	return escape(fmt.Sprintf(format, args...), maxReason, false)
}

// show makes foreign text safe to print in at most maxShown bytes.
func show(s string) string { return escape(s, maxShown, true) }

// showTag is show for a tag. Anything that could be the credentials of a URL
// is masked, wherever it stands: a user who misspells dill.proxy must not find
// the password in Peek. Of a tag without a known key only the key is shown, and
// of one that wants a word: any other word may be a secret in the wrong place. A
// wrong number, duration or address explains itself only when it is seen.
func showTag(tag string) string { return show(maskTag(tag)) }

func maskTag(tag string) string {
	key, value, found := strings.Cut(tag, "=")
	key, _, url := strings.Cut(key, "://")
	if !known(key) && !strings.Contains(key, ",") {
		key = mask.Name(key)
	}
	another := otherTag.FindStringIndex(value)
	switch {
	case url:
		return key + "://" + mask.Hidden
	case !found:
		return mask.User(key)
	case !known(key) || key == keyStrategy || key == keyProxyProtocol:
		return strings.TrimSuffix(mask.User(key), "…") + "=…"
	case key == keyProxy || strings.Contains(value, "://"):
		return key + "=" + mask.Hidden
	case another != nil:
		return key + "=" + mask.Address(value[:another[0]]) + maskTag(value[another[0]:])
	}
	return key + "=" + mask.Address(value)
}

// otherTag finds another tag in the value of one.
var otherTag = regexp.MustCompile(`(?i)` + regexp.QuoteMeta(tagPrefix))

// printable reports whether s is UTF-8 that prints as it is, on one line.
func printable(s string) bool {
	for _, r := range s {
		if !strconv.IsPrint(r) {
			return false
		}
	}
	return utf8.ValidString(s)
}

// escape writes what does not print as a Go string would, and cuts s to at
// most limit bytes; "…" marks a cut. backslash tells whether s may hold
// backslashes of its own, which are doubled then.
func escape(s string, limit int, backslash bool) string {
	const mark = "…"
	if len(s) <= limit && printable(s) && !(backslash && strings.Contains(s, `\`)) {
		return s
	}
	var b []byte
	fits := 0 // length of b that leaves room for the mark
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			b = fmt.Appendf(b, `\x%02x`, s[0])
		case r == '\\' && backslash:
			b = append(b, `\\`...)
		case strconv.IsPrint(r):
			b = utf8.AppendRune(b, r)
		default:
			q := strconv.QuoteRuneToASCII(r)
			b = append(b, q[1:len(q)-1]...)
		}
		if len(b) > limit {
			return string(b[:fits]) + mark
		}
		if len(b) <= limit-len(mark) {
			fits = len(b)
		}
		s = s[n:]
	}
	return string(b)
}
