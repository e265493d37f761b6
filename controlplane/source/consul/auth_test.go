package consul

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"dill/controlplane/source"
)

// TestBasicAuth: a user in the address is for a proxy in front of Consul. It
// goes into the Authorization header, and into nothing that is printed.
func TestBasicAuth(t *testing.T) {
	var log strings.Builder
	seen := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		select {
		case seen <- user + ":" + password:
		default:
		}
		http.Error(w, "no", http.StatusForbidden)
	}))
	defer server.Close()
	address := strings.Replace(server.URL, "://", "://me:s3cret@", 1)
	s, err := New(Config{Address: address}, slog.New(slog.NewTextHandler(io.Writer(&log), nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	var told []string
	go func() {
		defer close(done)
		_ = s.Run(ctx, func(snap source.Snapshot) {
			if snap.Err != nil {
				told = append(told, snap.Err.Error())
			}
		})
	}()
	if got := <-seen; got != "me:s3cret" {
		t.Errorf("asked as %q, want me:s3cret", got)
	}
	cancel()
	<-done
	if text := log.String() + strings.Join(told, "\n"); strings.Contains(text, "s3cret") {
		t.Errorf("the password shows: %s", text)
	}
}
