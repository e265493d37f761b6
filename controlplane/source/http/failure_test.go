package http

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dill/controlplane/source/routing"
	"dill/controlplane/source/sourcetest"
)

func TestFailureKeepsTheLastGood(t *testing.T) {
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, document("evil"), code) }
	}
	for name, tt := range map[string]struct {
		handler http.HandlerFunc
		want    string // in the error
	}{
		"404":          {status(404), "answered 404 Not Found"},
		"403":          {status(403), "answered 403 Forbidden"},
		"429":          {status(429), "answered 429 Too Many Requests"},
		"500":          {status(500), "answered 500 Internal Server Error"},
		"503":          {status(503), "answered 503 Service Unavailable"},
		"no content":   {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, "answered 204 No Content"},
		"304 unasked":  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(304) }, "answered 304 Not Modified"},
		"login page":   {answerWith("text/html", "<html><body>please log in</body></html>"), "json: line 1, column 1: invalid character '<'"},
		"empty":        {answerWith("application/yaml", ""), "yaml: empty document"},
		"garbage":      {answerWith("application/toml", "\x00\xff"), "toml: line 1"},
		"no list":      {answerWith("", "{}"), `no list "services"`},
		"too long":     {answerWith("application/yaml", strings.Repeat("#", routing.MaxSize+1)), "answered with more than 16777216 bytes"},
		"cut off":      {cutOff, "unexpected EOF"},
		"cut short":    {answerWith("", document("a")[:40]), "json: line 1, column 40: unexpected end of JSON input"},
		"reset":        {reset, "EOF"},
		"silent":       {silent, "no complete answer within"},
		"trickle":      {trickle, "no complete answer within"},
		"no HTTP":      {hijackAndWrite("SSH-2.0-OpenSSH_9.2\r\n"), "malformed HTTP"},
		"long no HTTP": {hijackAndWrite(strings.Repeat("x\x1b", 10000) + "\r\n\r\n"), "malformed HTTP"},
		"endless":      {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path+"x", http.StatusFound) }, "more than 5 redirects"},
		"gzip bomb":    {gzipBomb, "answered with more than"},
		"wrong header": {hijackAndWrite("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"), "bad Content-Length"},
		"long header":  {hijackAndWrite("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n"), "server response headers exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := serve(t, answerWith("", document("a")))
			timeout := 10 * time.Second
			if strings.HasPrefix(tt.want, "no complete answer") {
				timeout = 500 * time.Millisecond
			}
			f := follow(t, e.URL, timeout)
			f.UntilShown("a")
			e.set(tt.handler)
			bad := f.UntilShown("!a")
			if len(bad.Err.Error()) > 500 || strings.ContainsRune(bad.Err.Error(), 0x1b) {
				t.Errorf("error %q", bad.Err)
			}
			if !bad.Synced || bad.StaleSince.IsZero() {
				t.Errorf("snapshot of a failure: %+v", bad)
			}
			if text := bad.Err.Error(); !strings.Contains(text, tt.want) || !strings.HasPrefix(text, "routing endpoint "+e.URL) {
				t.Errorf("error %q, want %q in it", text, tt.want)
			}
			e.after(t, 2) // which fail alike: no news
			e.set(answerWith("", document("b")))
			f.UntilShown("b")
			var got []string
			for _, s := range f.All() {
				got = append(got, sourcetest.Show(s))
			}
			// How far a broken answer comes may differ, so its error may once.
			if !slices.Equal(slices.Compact(slices.Clone(got)), []string{"a", "!a", "b"}) || len(got) > 4 {
				t.Errorf("snapshots %q, want one of each state", got)
			}
			if log := f.Log.String(); strings.Count(log, "keeping the last good one") != len(got)-2 {
				t.Errorf("%d snapshots; log:\n%s", len(got), log)
			}
		})
	}
}

func cutOff(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "1000")
	fmt.Fprint(w, document("a"))
}

func hijackAndWrite(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		conn.Write([]byte(text))
		conn.Close()
	}
}

func reset(w http.ResponseWriter, r *http.Request) { hijackAndWrite("")(w, r) }

func silent(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func trickle(w http.ResponseWriter, r *http.Request) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			fmt.Fprint(w, " ")
			http.NewResponseController(w).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

// gzipped is a few kilobytes that unpack to more than is read.
var gzipped = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write(bytes.Repeat([]byte(" "), routing.MaxSize+1))
	z.Close()
	return b.Bytes()
})

func gzipBomb(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Encoding", "gzip")
	w.Write(gzipped())
}
