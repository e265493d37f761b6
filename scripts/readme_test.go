package scripts

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write README.md instead of comparing it")

const (
	readme    = "../README.md"
	reference = "../cmd/dill/README.md" // every setting; held to the code in cmd/dill
	results   = "../bench/README.md"
)

// TestReadmeQuotes holds what the README quotes to the files that the tests
// load. With -update it writes them into the README (make docs).
func TestReadmeQuotes(t *testing.T) {
	text := read(t, readme)
	fresh := regexp.MustCompile(`(?s)(<!-- file (\S+) -->\n).*?(<!-- /file -->)`).ReplaceAllStringFunc(text, func(block string) string {
		head, _, _ := strings.Cut(block, "\n")
		name := strings.Fields(head)[2]
		return fmt.Sprintf("%s\n```%s\n%s```\n<!-- /file -->", head, strings.TrimPrefix(filepath.Ext(name), "."), read(t, "../"+name))
	})
	if fresh == text {
		return
	}
	if !*update {
		t.Fatal("README.md is not what the files it quotes say; run make docs")
	}
	if err := os.WriteFile(readme, []byte(fresh), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestReadmesNameWhatExists(t *testing.T) {
	makefile := read(t, "../Makefile")
	for _, name := range []string{readme, reference, results} {
		text := read(t, name)
		for _, m := range regexp.MustCompile("(?:`|\n)make ([a-z-]+)").FindAllStringSubmatch(text, -1) {
			if !strings.Contains(makefile, "\n"+m[1]+":") {
				t.Errorf("%s says make %s, which the Makefile does not have", name, m[1])
			}
		}
		for _, m := range regexp.MustCompile(`\]\(([^):]+)\)`).FindAllStringSubmatch(text, -1) {
			file, title, _ := strings.Cut(m[1], "#")
			linked := text
			if file != "" {
				path := filepath.Join(filepath.Dir(name), file)
				if _, err := os.Stat(path); err != nil {
					t.Errorf("%s links %s: %v", name, file, err)
				}
				if title == "" {
					continue
				}
				linked = read(t, path)
			}
			if !strings.Contains(strings.ToLower(linked), "\n## "+strings.ReplaceAll(title, "-", " ")+"\n") {
				t.Errorf("%s links the heading %q, which does not exist", name, m[1])
			}
		}
	}
	text := read(t, readme)
	settings := read(t, reference)
	for _, m := range regexp.MustCompile("`((?:listeners|peek|runtime|dataplane|consul|nomad|file|http|state|shutdown|log|debug)\\.[a-z_.]+)`").FindAllStringSubmatch(text, -1) {
		if !strings.Contains(settings, "`"+m[1]+"`") {
			t.Errorf("the README names the setting %s, which does not exist", m[1])
		}
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
