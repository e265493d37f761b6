package compile

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"dill/controlplane/source"
)

// Tags and the keys that dill knows.
const (
	tagDill   = "dill"
	tagPrefix = "dill."

	keyListener       = "dill.listener"
	keyStrategy       = "dill.strategy"
	keyWeight         = "dill.weight"
	keyConnectTimeout = "dill.connect_timeout"
	keyIdleTimeout    = "dill.idle_timeout"
	keyMaxConnections = "dill.max_connections"
	keyAllow          = "dill.allow"
	keyProxyProtocol  = "dill.proxy_protocol"
	keyDrain          = "dill.drain"
	keyProxy          = "dill.proxy"
)

const (
	maxTag = 2048 // bytes of a tag

	// maxFaults is how many mistakes of one instance are told apart. However
	// many tags it has, all are read: an option that protects may be the last.
	maxFaults = 128
)

// fault is what is wrong with one tag.
type fault struct {
	claim  string // the tag, safe to print
	reason string // safe to print
}

// spec is what the tags of one instance ask for. Instances with the same tags
// share one; it is never changed after parseTags.
type spec struct {
	enabled  bool     // has the tag "dill"
	refused  bool     // a closed option is bad: none of the claims is served
	unusable bool     // the source could not read the instance
	missed   bool     // asks for a listener or for "dill" by a tag that does not count
	claims   []string // values of dill.listener, sorted, unique
	faults   []fault  // sorted, unique

	instanceOptions
	listenerOptions
	allow []netip.Prefix // normalised, see normalise; nil = everybody
}

// given is what the tags say about one option.
type given struct {
	value   string
	present bool
	spoilt  bool // a tag could not be read, or two differ
}

// parseTags reads the tags of one instance, and what its source could not read.
// Their order does not matter. It never fails: what is wrong is in the faults.
func parseTags(tags []string, unread []source.Fault) *spec {
	s := &spec{enabled: slices.Contains(tags, tagDill)}
	var values [len(options)]given
	for _, f := range unread {
		if i := optionIndex(f.Tag); i >= 0 {
			values[i].spoilt = true
			s.spoil(&options[i], f.Tag, f.Reason)
			continue
		}
		s.unusable = s.unusable || f.Tag == ""
		s.missed = s.missed || f.Tag == keyListener
		s.bad(f.Tag, f.Reason)
	}
	for _, tag := range tags {
		if tag == tagDill || !source.IsTag(tag) {
			continue
		}
		key, value, found := strings.Cut(tag, "=")
		meant := meantKey(key)
		i := optionIndex(meant)
		var why string
		switch {
		case len(tag) > maxTag:
			why = reason("the tag is %d bytes long, at most %d are read", len(tag), maxTag)
		case !printable(tag):
			why = "the tag has characters that do not print"
		case meant != key || !known(key):
			why = misspelt(key, meant)
		case !found:
			why = "the tag has no value; want " + key + "=…"
		}
		within := closedWithin(tag, i)
		if within != nil {
			why = cmp.Or(why, severalTags)
		}
		switch {
		case i < 0 && why != "":
			s.missed = s.missed || meant == keyListener || meant == tagDill
			s.spoil(within, tag, why)
		case i < 0:
			s.claims = append(s.claims, value)
		case why != "":
			values[i].spoilt = true
			s.spoil(cmp.Or(within, &options[i]), tag, why)
		case values[i].present && values[i].value != value:
			values[i].spoilt = true
			s.spoil(&options[i], key+"=", "given more than once with different values")
		default:
			values[i].present, values[i].value = true, value
		}
	}
	slices.Sort(s.claims)
	s.claims = slices.Compact(s.claims)
	for i := range options {
		o, v := &options[i], values[i]
		if !v.present || v.spoilt {
			continue
		}
		if want := o.set(s, v.value); want != "" {
			s.spoil(o, o.key+"="+v.value, "want "+want)
		}
	}
	slices.SortFunc(s.faults, func(a, b fault) int {
		return cmp.Or(strings.Compare(a.claim, b.claim), strings.Compare(a.reason, b.reason))
	})
	s.faults = slices.Compact(s.faults)
	return s
}

// meantKey is the key of a tag as it was probably meant.
func meantKey(key string) string {
	meant := strings.ToLower(strings.TrimSpace(key))
	if strings.HasPrefix(meant, tagDill+",") {
		return tagDill
	}
	return meant
}

const severalTags = "several tags in one; want each as a tag of its own"

// misspelt says why a tag with this key is none of dill's.
func misspelt(key, meant string) string {
	switch bare := strings.TrimSpace(key); {
	case !known(meant) && meant != tagDill:
		return "unknown tag"
	case len(bare) > len(meant):
		return severalTags
	case bare != meant:
		return "tags are in lower case; want " + meant
	}
	return "there are blanks around " + meant
}

func optionIndex(key string) int {
	return slices.IndexFunc(options[:], func(o option) bool { return o.key == key })
}

// bad reports a tag that has no effect.
func (s *spec) bad(tag, why string) {
	s.faults = append(s.faults, fault{showTag(tag), reason("%s", why)})
}

// spoil reports a bad tag of an option, nil for that of none, and what follows
// from it.
func (s *spec) spoil(o *option, tag, why string) {
	switch {
	case o == nil:
		s.bad(tag, why)
	case o.closed:
		s.refused = true
		s.bad(tag, why+"; the instance is not served without it")
	default:
		s.bad(tag, why+"; the default holds")
	}
}

// closedWithin returns the closed option that a tag names without setting it:
// behind another tag, or with a separator that is none. i is the option it sets,
// <0 for none. nil = it names none.
func closedWithin(tag string, i int) *option {
	if i >= 0 && options[i].closed {
		return nil // what is wrong with it refuses the instance
	}
	tag = strings.ToLower(tag)
	for i := range options {
		if o := &options[i]; o.closed && strings.Contains(tag, o.key) {
			return o
		}
	}
	return nil
}

// firstFaults cuts faults to maxFaults, the last of which counts the others.
func firstFaults(faults []fault) []fault {
	more := len(faults) - maxFaults + 1
	if more <= 1 {
		return faults
	}
	return append(slices.Clone(faults[:maxFaults-1]), fault{tagPrefix + "*", reason("%d more tags with mistakes", more)})
}
