package peek

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxField is how much of one foreign string is shown, in bytes.
const maxField = 300

// escape makes foreign text safe for a terminal and for one line: what is not
// printable is shown as Go would write it, what is too long is cut.
func escape(s string) string {
	var out strings.Builder
	for i, r := range s {
		if out.Len() >= maxField {
			out.WriteString("…")
			break
		}
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD"):
			out.WriteString(`\x` + strconv.FormatUint(uint64(s[i]), 16))
		case unicode.IsPrint(r):
			out.WriteRune(r)
		default:
			out.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return out.String()
}
