package consul

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// token is the ACL token, from the configuration or from a file that somebody
// else may replace at any time.
type token struct {
	file string // "" = text is constant

	mu   sync.Mutex
	text string
	read stamp // of the file that text is from
	sure bool  // the file was no longer new then
}

// stamp tells one content of a file from the next without reading it.
type stamp struct {
	changed time.Time
	size    int64
}

// get returns the token, reading the file if it changed. When that fails it is
// the last one that could be read, together with the error.
func (t *token) get() (text string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.file == "" {
		return t.text, nil
	}
	info, err := os.Stat(t.file)
	if err != nil {
		return t.text, fmt.Errorf("token file: %w", err)
	}
	now := stamp{info.ModTime(), info.Size()}
	if now == t.read && t.sure {
		return t.text, nil
	}
	content, err := os.ReadFile(t.file)
	if err != nil {
		return t.text, fmt.Errorf("token file: %w", err)
	}
	// A file that is empty for a moment is one that is being written.
	if text := strings.TrimSpace(string(content)); text != "" {
		// Clocks of file systems are coarse: what is written within a tick of
		// being read looks as it did.
		t.text, t.read, t.sure = text, now, time.Since(now.changed) > time.Second
		return t.text, nil
	}
	return t.text, fmt.Errorf("token file %s is empty", t.file)
}
