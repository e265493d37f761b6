package http

import (
	"errors"
	"fmt"
	"net/http"
)

// maxRedirects is enough for a moved document behind a load balancer.
const maxRedirects = 5

// checkRedirect lets a moved document be followed, and nothing be told to where
// it moved: a Referer would carry the query, which may hold a token.
func checkRedirect(to *http.Request, via []*http.Request) error {
	to.Header.Del("Referer")
	switch {
	case len(via) > maxRedirects:
		return fmt.Errorf("more than %d redirects", maxRedirects)
	case to.URL.Scheme != "http" && to.URL.Scheme != "https":
		return errors.New("redirected to neither http nor https")
	case via[0].URL.Scheme == "https" && to.URL.Scheme == "http":
		return errors.New("redirected from https to http")
	}
	return nil
}

// located is a transport that refuses a redirect to what is no URL. Package
// http's own error quotes it, with whatever secret of the endpoint is in it.
type located struct{ *http.Transport }

func (l located) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := l.Transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if _, err := resp.Location(); resp.StatusCode/100 == 3 && err != nil && !errors.Is(err, http.ErrNoLocation) {
		resp.Body.Close()
		return nil, errors.New("redirected to what is no URL")
	}
	return resp, nil
}
