package source

import "strings"

// Unbracketed returns the address inside of the brackets that some registries
// have around IPv6 even where no port follows, or else host itself.
func Unbracketed(host string) string {
	if inner, ok := strings.CutPrefix(host, "["); ok {
		if inner, ok = strings.CutSuffix(inner, "]"); ok {
			return inner
		}
	}
	return host
}
