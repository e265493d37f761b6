package source

import "strings"

const (
	tagDill = "dill"

	// afterDill is what can follow the word in a tag that is dill's or was meant
	// to be: other words begin with these letters, too.
	afterDill = ".,;:= \t"
)

// IsTag reports whether a tag is dill's, "dill" or "dill.…", or was probably meant
// to be: blanks before it, capital letters or another separator are mistakes
// that package compile has to see to name them. Sources pass on these tags.
func IsTag(tag string) bool {
	tag = strings.TrimLeft(tag, " \t")
	n := len(tagDill)
	// Nearly every tag of a catalog is somebody else's and ends here.
	if len(tag) < n || tag[0]|0x20 != tagDill[0] || !strings.EqualFold(tag[:n], tagDill) {
		return false
	}
	return len(tag) == n || strings.IndexByte(afterDill, tag[n]) >= 0
}
