package consul

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"unicode"
)

// The endpoints whose paths end in a name, which is any text that somebody
// registered.
const (
	servicePath = "/v1/health/service/"
	nodePath    = "/v1/catalog/node-services/"
)

// errUnprintable is why an instance of a service is not asked for: agents refuse
// every path with such a character, however it is escaped.
var errUnprintable = errors.New("consul serves no name with a character that cannot be printed; rename the service")

// askable returns why Consul cannot be asked for something of this name, nil if
// it can.
func askable(name string) error {
	if strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return errUnprintable
	}
	return nil
}

// prefix is what stands before "/v1" in the paths of an API at u.
func prefix(u *url.URL) string {
	if u.Scheme == "unix" {
		return ""
	}
	return strings.TrimRight(u.Path, "/")
}

// segmented returns req with the name at the end of its path as one segment of
// it. Package api sends the slashes and dots of a name as they are, and to a path
// that is not clean Consul answers with a redirect to another one.
func (c *client) segmented(req *http.Request) *http.Request {
	for _, endpoint := range []string{servicePath, nodePath} {
		name, ok := strings.CutPrefix(req.URL.Path, c.prefix+endpoint)
		if !ok {
			continue
		}
		before := url.URL{Path: c.prefix + endpoint}
		if raw := before.EscapedPath() + segment(name); raw != req.URL.EscapedPath() {
			u := *req.URL
			u.RawPath = raw
			req = req.WithContext(req.Context())
			req.URL = &u
		}
	}
	return req
}

// segment escapes a name as one segment of a path.
func segment(name string) string {
	if name == "." || name == ".." { // steps in a tree, unescaped
		return strings.ReplaceAll(name, ".", "%2E")
	}
	return url.PathEscape(name)
}
