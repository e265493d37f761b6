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
	reference = "../cmd/dill/testdata/config-reference.md" // every setting; held to the code in cmd/dill
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
	fresh = between(t, fresh, "config-reference", read(t, reference))
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

// between replaces what stands between the markers called name.
func between(t *testing.T, text, name, body string) string {
	t.Helper()
	begin, end := "<!-- "+name+" -->\n", "<!-- /"+name+" -->"
	before, rest, found := strings.Cut(text, begin)
	_, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("the README lacks the markers of %s", name)
	}
	return before + begin + body + end + after
}

func TestReadmeNamesWhatExists(t *testing.T) {
	text, makefile := read(t, readme), read(t, "../Makefile")
	for _, m := range regexp.MustCompile("(?:`|\n)make ([a-z-]+)").FindAllStringSubmatch(text, -1) {
		if !strings.Contains(makefile, "\n"+m[1]+":") {
			t.Errorf("the README says make %s, which the Makefile does not have", m[1])
		}
	}
	for _, m := range regexp.MustCompile(`\]\(([^):]+)\)`).FindAllStringSubmatch(text, -1) {
		if title, ok := strings.CutPrefix(m[1], "#"); ok {
			if !strings.Contains(strings.ToLower(text), "\n## "+strings.ReplaceAll(title, "-", " ")+"\n") {
				t.Errorf("the README links its own heading %q, which it does not have", title)
			}
		} else if _, err := os.Stat("../" + m[1]); err != nil {
			t.Errorf("the README links %s: %v", m[1], err)
		}
	}
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
