package outgoing

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// printableMost is how much of a foreign text is shown, in bytes.
const printableMost = 200

// Printable makes foreign text fit for one line of a message: short, and without
// what cannot be printed.
func Printable(text string) string {
	var b strings.Builder
	for _, r := range text {
		if b.Len() >= printableMost {
			b.WriteRune('…')
			break
		}
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			r = ' '
		}
		b.WriteRune(r)
	}
	return strings.TrimSpace(b.String())
}
