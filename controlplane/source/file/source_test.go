package file

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"dill/controlplane/source/routing"
	"dill/controlplane/source/sourcetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// follow runs a Source until the test ends. adjust, if not nil, sees it before.
func follow(t *testing.T, path string, watch bool, adjust func(*Source)) *sourcetest.Follower {
	t.Helper()
	log := new(sourcetest.Log)
	s, err := New(path, watch, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if adjust != nil {
		adjust(s)
	}
	return sourcetest.Follow(t, s, log, sourcetest.Show)
}

// document has one service for each name.
func document(names ...string) string {
	var b strings.Builder
	b.WriteString("services:\n")
	for i, n := range names {
		fmt.Fprintf(&b, "  - {name: %s, listener: 'local:%d', backends: ['127.0.0.1:5050']}\n", n, 8000+i)
	}
	return b.String()
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// replace puts text at path the atomic way.
func replace(t *testing.T, path, text string) {
	t.Helper()
	write(t, path+".new", text)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, target, path string) {
	t.Helper()
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}

// routes is a file in a directory of its own.
func routes(t *testing.T) string { return filepath.Join(t.TempDir(), "routes.yaml") }

func TestFileIsRead(t *testing.T) {
	path := routes(t)
	write(t, path, document("b", "a"))
	s := follow(t, path, true, nil).UntilShown("a b")
	if s.Source != "file" || s.Suspect || !s.StaleSince.IsZero() {
		t.Errorf("snapshot %+v", s)
	}
	if in := s.Services[1].Instances; len(in) != 1 || in[0].Tags[1] != "dill.listener=local:8000" || in[0].Port != 5050 {
		t.Errorf("instances of b: %+v", in)
	}
}

func TestAtomicReplacement(t *testing.T) {
	path := routes(t)
	write(t, path, document("a"))
	f := follow(t, path, true, nil)
	f.UntilShown("a")
	for i := range 20 {
		want := fmt.Sprintf("s%02d", i)
		began := time.Now()
		replace(t, path, document(want))
		f.UntilShown(want)
		if i == 19 {
			t.Logf("taken over after %s", time.Since(began))
		}
	}
	for _, s := range f.All() {
		if s.Err != nil {
			t.Errorf("a complete file was found faulty: %v", s.Err)
		}
	}
}

func TestWrittenInPlace(t *testing.T) {
	path := routes(t)
	write(t, path, document("old"))
	f := follow(t, path, true, nil)
	f.UntilShown("old")

	text := document("new1", "new2")
	half := len(text) - 20 // in the middle of an address
	w, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for _, part := range []string{text[:half], text[half:]} {
		if _, err := w.WriteString(part); err != nil {
			t.Fatal(err)
		}
	}
	f.UntilShown("new1 new2")
	for _, s := range f.All() {
		if got := strings.TrimPrefix(sourcetest.Show(s), "!"); got != "old" && got != "new1 new2" {
			t.Errorf("half a file was taken: %q", got)
		}
	}
}

func TestRemovedAndWrittenAnew(t *testing.T) {
	path := routes(t)
	write(t, path, document("a"))
	f := follow(t, path, true, nil)
	f.UntilShown("a")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	gone := f.UntilShown("!a")
	if !errors.Is(gone.Err, os.ErrNotExist) || !strings.Contains(gone.Err.Error(), path) || gone.StaleSince.IsZero() {
		t.Errorf("snapshot of a removed file: %+v", gone)
	}
	write(t, path, document("a"))
	f.UntilShown("a")
	write(t, path, document("b"))
	f.UntilShown("b")
}

// As kubelet updates a mounted ConfigMap.
func TestKubernetesSwap(t *testing.T) {
	dir := t.TempDir()
	version := func(name, text string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name, "routes.yaml"), text)
		link(t, name, filepath.Join(dir, "..data_tmp"))
		if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	version("..v1", document("a"))
	path := filepath.Join(dir, "routes.yaml")
	link(t, "..data/routes.yaml", path)

	// Without the safety net: the notification must do it.
	f := follow(t, path, true, func(s *Source) { s.every = time.Hour })
	f.UntilShown("a")
	for i := 2; i < 6; i++ {
		want := fmt.Sprintf("v%d", i)
		version(".."+want, document(want))
		if err := os.RemoveAll(filepath.Join(dir, fmt.Sprintf("..v%d", i-1))); err != nil {
			t.Fatal(err)
		}
		f.UntilShown(want)
	}
}

func TestTargetOfALinkIsEdited(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	target, path := filepath.Join(elsewhere, "real"), filepath.Join(dir, "routes.yaml")
	write(t, target, document("a"))
	link(t, target, path)
	f := follow(t, path, true, func(s *Source) { s.every = time.Hour })
	f.UntilShown("a")
	write(t, target, document("b"))
	f.UntilShown("b")
	replace(t, target, document("c"))
	f.UntilShown("c")
}

func TestDirectoryIsReplaced(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "conf")
	path := filepath.Join(dir, "routes.yaml")
	f := follow(t, path, true, func(s *Source) { s.every = 20 * time.Millisecond })
	f.UntilShown("!?") // not even the directory is there

	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, path, document("a"))
	f.UntilShown("a")
	if err := os.Rename(dir, dir+".old"); err != nil {
		t.Fatal(err)
	}
	f.UntilShown("!a")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, path, document("b"))
	f.UntilShown("b")
	replace(t, path, document("c"))
	f.UntilShown("c")
}

func TestPollingAlone(t *testing.T) {
	path := routes(t)
	write(t, path, document("a"))
	f := follow(t, path, true, func(s *Source) { s.notify, s.every = false, 10*time.Millisecond })
	f.UntilShown("a")
	// The same size, and perhaps the same time of change.
	for _, want := range []string{"b", "c", "d"} {
		write(t, path, document(want))
		f.UntilShown(want)
	}
}

func TestMissingAtStart(t *testing.T) {
	path := routes(t)
	f := follow(t, path, true, nil)
	s := f.UntilShown("!?")
	if len(s.Services) != 0 || !s.StaleSince.IsZero() {
		t.Errorf("snapshot of a missing file: %+v", s)
	}
	if log := f.Log.String(); strings.Count(log, "waiting for a good one") != 1 {
		t.Errorf("log of a missing file:\n%s", log)
	}
	write(t, path, document("a"))
	f.UntilShown("a")
}

func TestBrokenEditKeepsTheLastGood(t *testing.T) {
	for name, text := range map[string]string{
		"syntax":   "services:\n  - name: [\n",
		"empty":    "",
		"no list":  "# all gone\n",
		"binary":   "\x00\x01\x02",
		"null":     "services:\n",
		"html":     "<html><body>503</body></html>",
		"cut off":  document("a", "b")[:30],
		"too long": strings.Repeat("#", routing.MaxSize+1),
	} {
		t.Run(name, func(t *testing.T) {
			path := routes(t)
			write(t, path, document("a"))
			f := follow(t, path, true, nil)
			f.UntilShown("a")
			write(t, path, text)
			broken := f.UntilShown("!a")
			if !broken.Synced || broken.StaleSince.IsZero() || !strings.Contains(broken.Err.Error(), path) {
				t.Errorf("snapshot of a broken file: %+v", broken)
			}
			if log := f.Log.String(); strings.Count(log, "keeping the last good one") != 1 {
				t.Errorf("log of a broken file:\n%s", log)
			}
			write(t, path, document("a"))
			if whole := f.UntilShown("a"); whole.Err != nil || !whole.StaleSince.IsZero() {
				t.Errorf("snapshot of the mended file: %+v", whole)
			}
		})
	}
}

func TestOneBadEntryIsReported(t *testing.T) {
	path := routes(t)
	write(t, path, document("a")+"  - {name: b, listener: 'local:9000', backends: ['10.0.0.1']}\n")
	f := follow(t, path, true, nil)
	s := f.UntilShown("a b")
	in := s.Services[1].Instances[0]
	if in.Port != 0 || in.Host != "10.0.0.1" {
		t.Errorf("bad backend became %+v", in)
	}
	if want := `line 3: backends[0]: "10.0.0.1" has no port; want "host:port"`; len(in.Faults) != 1 || in.Faults[0].Reason != want {
		t.Errorf("faults %+v, want %s", in.Faults, want)
	}
	if log := f.Log.String(); strings.Contains(log, "has no port") {
		t.Errorf("what the refusal tells is logged as well:\n%s", log)
	}
}

func TestUnchangedContentIsNotSentAgain(t *testing.T) {
	path := routes(t)
	write(t, path, document("a"))
	f := follow(t, path, true, nil)
	f.UntilShown("a")
	write(t, path, document("a"))                       // same bytes
	replace(t, path, document("a"))                     // another file
	replace(t, path, "# a comment\n"+document("a"))     // same routes
	write(t, filepath.Dir(path)+"/other", "not ours\n") // a neighbour
	f.UntilShown("a")
	replace(t, path, document("b"))
	f.UntilShown("b")
	var got []string
	for _, s := range f.All() {
		got = append(got, sourcetest.Show(s))
	}
	if !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("snapshots %q, want a and b once each", got)
	}
}

func TestNotAFile(t *testing.T) {
	path := routes(t)
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	f := follow(t, path, true, nil)
	if s := f.UntilShown("!?"); !strings.Contains(s.Err.Error(), "not a regular file") {
		t.Errorf("error of a directory: %v", s.Err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(path, 0o644); err != nil { // opening one would wait for a writer
		t.Fatal(err)
	}
	replace(t, path, document("a"))
	f.UntilShown("a")
}

func TestUnknownExtensionIsRefused(t *testing.T) {
	for _, path := range []string{"routes", "routes.conf", ""} {
		_, err := New(path, true, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), ".toml, .yaml, .yml or .json") {
			t.Errorf("New(%q): %v, want an error that names the extensions", path, err)
		}
	}
}

func TestUnwatchedFileIsReadOnce(t *testing.T) {
	path := routes(t)
	synctest.Test(t, func(t *testing.T) {
		f := follow(t, path, false, nil)
		f.UntilShown("!?")
		write(t, path, document("a")) // not there at first: waited for
		f.UntilShown("a")
		write(t, path, document("b"))
		<-time.After(time.Hour)
		synctest.Wait()
		if n := len(f.All()); n != 2 {
			t.Errorf("%d snapshots, want 2: a file that is not watched is read once", n)
		}
	})
}

func TestUnusableFileIsMentionedSeldom(t *testing.T) {
	path := routes(t)
	synctest.Test(t, func(t *testing.T) {
		f := follow(t, path, true, func(s *Source) { s.notify = false })
		<-time.After(21 * time.Minute)
		synctest.Wait()
		if n := strings.Count(f.Log.String(), "waiting for a good one"); n != 3 {
			t.Errorf("mentioned %d times in 21 minutes, want 3:\n%s", n, f.Log)
		}
		if n := len(f.All()); n != 1 {
			t.Errorf("%d snapshots of one state", n)
		}
	})
}
