package http

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"dill/controlplane/source/outgoing"
	"dill/controlplane/source/routing"
)

// validators let a server tell that a document is still the one it sent.
type validators struct {
	etag         string
	lastModified string
}

// answer is a document as it arrived.
type answer struct {
	unchanged  bool // it is the one that the validators belong to; the rest is empty
	format     routing.Format
	data       []byte
	validators validators
}

// fetch gets the document at endpoint. Errors carry no address and no part of
// the URL: the same failure reads the same each time, and tells no secret.
func fetch(ctx context.Context, client *http.Client, endpoint *url.URL, seen validators) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint.String(), nil)
	if err != nil {
		return answer{}, errors.New("the URL cannot be asked")
	}
	req.Header.Set("User-Agent", "dill")
	req.Header.Set("Accept", "application/json, application/yaml, application/toml, */*;q=0.1")
	if seen.etag != "" {
		req.Header.Set("If-None-Match", seen.etag)
	}
	if seen.lastModified != "" {
		req.Header.Set("If-Modified-Since", seen.lastModified)
	}
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, outgoing.Describe(err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotModified && seen != validators{}:
		return answer{unchanged: true}, nil
	case resp.StatusCode != http.StatusOK:
		return answer{}, fmt.Errorf("answered %d %s; want 200", resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, routing.MaxSize+1))
	if err != nil {
		return answer{}, outgoing.Describe(err)
	}
	if len(data) > routing.MaxSize {
		return answer{}, fmt.Errorf("answered with more than %d bytes", routing.MaxSize)
	}
	return answer{
		format:     formatOf(resp),
		data:       data,
		validators: validatorsOf(resp.Header),
	}, nil
}

func formatOf(resp *http.Response) routing.Format {
	if f, ok := routing.FormatOfMedia(resp.Header.Get("Content-Type")); ok {
		return f
	}
	if f, ok := routing.FormatOf(resp.Request.URL.Path); ok {
		return f
	}
	return routing.JSON
}

// validatorsOf returns what a document is recognised by. Its date counts only
// if the answer is at least a second younger: two versions of the same second
// cannot be told apart by it (RFC 9110, section 8.8.2.2).
func validatorsOf(h http.Header) validators {
	v := validators{etag: h.Get("ETag")}
	modified, err1 := http.ParseTime(h.Get("Last-Modified"))
	sent, err2 := http.ParseTime(h.Get("Date"))
	if err1 == nil && err2 == nil && sent.Sub(modified) >= time.Second {
		v.lastModified = h.Get("Last-Modified")
	}
	return v
}
