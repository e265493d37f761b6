package state

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"dill/controlplane/regular"
	"dill/controlplane/source"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

func sample(n int) State {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return State{
		Saved: at,
		Sources: []Source{
			{Name: "consul", Since: at, Services: []source.Service{
				{Name: "api", CreateIndex: 7, Instances: []source.Instance{
					{ID: "n1/api-1", Host: "10.0.0.1", Port: 80, Tags: []string{"dill", "dill.listener=any:5000"}, Health: source.Warning, Weight: 3, CreateIndex: 9, Kept: true},
					{ID: "n1/api-2", Host: "api.example", Port: n, Tags: []string{"dill", "dill.proxy=socks5://u:p@h:1"}, Health: source.Maintenance},
				}},
				{Name: "web"},
			}},
			{Name: "file", Since: at.Add(-time.Hour)},
			{Name: "nomad", Scope: "team", Since: at, Stale: map[string]time.Time{"db": at.Add(-time.Minute)}},
		},
		Lingering: map[netip.AddrPort][]string{netip.MustParseAddrPort("0.0.0.0:5000"): {"n1/api-1"}},
		Owners: map[netip.AddrPort]string{
			netip.MustParseAddrPort("0.0.0.0:5000"): "consul/api",
			netip.MustParseAddrPort("[::1]:5001"):   "file/x",
		},
	}
}

func TestRoundTrip(t *testing.T) {
	for _, s := range []State{{}, sample(1)} {
		data, err := encode(s)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decode(data)
		if err != nil || !reflect.DeepEqual(got, s) {
			t.Errorf("decode(encode(s)) = %+v, %v\nwant %+v", got, err, s)
		}
	}
}

func TestDecodeRefusesDamage(t *testing.T) {
	good, err := encode(sample(1))
	if err != nil {
		t.Fatal(err)
	}
	flip := bytes.Clone(good)
	flip[len(flip)/2] ^= 1
	for name, data := range map[string][]byte{
		"empty":         nil,
		"header only":   good[:bytes.IndexByte(good, '\n')],
		"cut short":     good[:len(good)-10],
		"one bit":       flip,
		"more behind":   append(bytes.Clone(good), '\n'),
		"not ours":      []byte("{\"saved\":1}\n"),
		"next version":  bytes.Replace(good, []byte("dill-state 2 "), []byte("dill-state 3 "), 1),
		"version 0":     bytes.Replace(good, []byte("dill-state 2 "), []byte("dill-state 0 "), 1),
		"zeroed blocks": make([]byte, 4096),
	} {
		if s, err := decode(data); err == nil || len(s.Sources) > 0 {
			t.Errorf("%s: decoded to %+v, %v", name, s, err)
		}
	}
}

func TestDamagedFileIsSetAside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	if err := os.WriteFile(path, []byte("dill-state 1 00 3\n{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := New(path, quiet).Load()
	if err == nil || !strings.Contains(err.Error(), path+".damaged-") || len(s.Sources) > 0 {
		t.Fatalf("Load = %+v, %v, want an error that names the file set aside", s, err)
	}
	aside, _ := filepath.Glob(path + ".damaged-*")
	if len(aside) != 1 {
		t.Errorf("set aside: %v", aside)
	}
	if s, err := New(path, quiet).Load(); err != nil || len(s.Sources) > 0 {
		t.Errorf("second Load = %+v, %v, want empty and clean", s, err)
	}
}

// A file of the version before is read; one of a later version is set aside, in
// one line that says so.
func TestVersions(t *testing.T) {
	text := []byte(`{"saved":"2026-01-02T03:04:05Z","sources":[{"name":"consul","since":"2026-01-02T03:04:05Z","services":[` +
		`{"name":"web","instances":[{"id":"n1/web-1","host":"10.0.0.1","port":80,"tags":["dill"],"health":"critical"}]}]}],` +
		`"owners":{"127.0.0.1:5000":"consul/web"}}` + "\n")
	file := func(version int) []byte {
		return append(fmt.Appendf(nil, "dill-state %d %x %d\n", version, sha256.Sum256(text), len(text)), text...)
	}
	s, err := decode(file(1))
	if err != nil || len(s.Sources) != 1 || s.Sources[0].Services[0].Instances[0].Health != source.Critical || len(s.Owners) != 1 ||
		s.Sources[0].Scope != "" || s.Sources[0].Stale != nil || s.Lingering != nil {
		t.Errorf("version 1: %+v, %v", s, err)
	}
	path := filepath.Join(t.TempDir(), "state")
	if err := os.WriteFile(path, file(version+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(path, quiet).Load(); err == nil || !strings.HasPrefix(err.Error(), `version "3", this dill reads versions 1 to 2; set aside as `+path+".damaged-") {
		t.Errorf("version 3: %v", err)
	}
}

// A FIFO as state.path neither holds the start up nor gives way to a file.
func TestStateIsARegularFile(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{t.TempDir(), fifo} {
		f := New(path, quiet)
		if _, err := f.Load(); !errors.Is(err, regular.ErrNotRegular) {
			t.Errorf("Load of %s: %v", path, err)
		}
		if err := f.write(sample(1)); !errors.Is(err, regular.ErrNotRegular) {
			t.Errorf("write over %s: %v", path, err)
		}
	}
}

func TestSaveIsDebouncedAndPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	synctest.Test(t, func(t *testing.T) {
		f := New(path, quiet)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { f.Run(ctx); close(done) }()

		for i := range 50 {
			f.Save(sample(i + 1))
			time.Sleep(10 * time.Millisecond)
		}
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("written within half a second: %v", err)
		}
		time.Sleep(600 * time.Millisecond)
		synctest.Wait()
		got, err := f.Load()
		if err != nil || !reflect.DeepEqual(got, sample(50)) {
			t.Errorf("Load = %+v, %v, want the newest", got, err)
		}
		if fi, err := os.Stat(path); err != nil || fi.Mode() != 0o600 {
			t.Errorf("mode %v, %v, want 0600", fi.Mode(), err)
		}

		// What is still waiting at the end is written then.
		f.Save(sample(99))
		cancel()
		<-done
		if got, err := f.Load(); err != nil || !reflect.DeepEqual(got, sample(99)) {
			t.Errorf("after the end: %+v, %v", got, err)
		}
	})
	left, _ := filepath.Glob(path + "*")
	if len(left) != 1 {
		t.Errorf("files left: %v", left)
	}
}

// A state that cannot be written is told once, and as it is: what is wrong, with
// what directory, since when, and when it is over.
func TestTroubleIsToldOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "later")
	var log bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		f := New(filepath.Join(dir, "state"), slog.New(slog.NewTextHandler(&log, nil)))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { f.Run(ctx); close(done) }()
		f.Save(sample(1))
		time.Sleep(delay)
		synctest.Wait()
		began := time.Now()
		time.Sleep(time.Hour)
		synctest.Wait()
		want := "there is no directory " + dir
		if since, err := f.Trouble(); err == nil || err.Error() != want || !since.Equal(began) {
			t.Errorf("trouble since %v is %v, want %q since %v", since, err, want, began)
		}
		if err := f.Check(); err == nil || err.Error() != want {
			t.Errorf("checked: %v", err)
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		time.Sleep(retry)
		synctest.Wait()
		if _, err := f.Trouble(); err != nil {
			t.Errorf("still in trouble: %v", err)
		}
		cancel()
		<-done
	})
	told := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(told) != 2 || !strings.Contains(told[0], "level=ERROR") || !strings.Contains(told[1], "is saved again") || strings.Contains(log.String(), ".tmp") {
		t.Errorf("told:\n%s", &log)
	}
}

// Check leaves nothing behind and touches nothing, and finds out what would keep
// a write from succeeding.
func TestCheck(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	f := New(path, quiet)
	if err := os.WriteFile(path, []byte("as it was"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.Check(); err != nil {
		t.Errorf("where all is well: %v", err)
	}
	left, _ := filepath.Glob(path + "*")
	if text, _ := os.ReadFile(path); len(left) != 1 || string(text) != "as it was" {
		t.Errorf("left are %q, with %q", left, text)
	}
	for name, tt := range map[string]struct{ path, want string }{
		"below a file": {filepath.Join(path, "state"), "cannot write in " + path + ": not a directory"},
		"a device":     {"/dev/null", "not a regular file"},
		"read-only":    {"/proc/state", "/proc"},
	} {
		if err := New(tt.path, quiet).Check(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

func TestFailedWriteIsTriedAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "later")
	synctest.Test(t, func(t *testing.T) {
		f := New(filepath.Join(dir, "state"), quiet)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { f.Run(ctx); close(done) }()
		f.Save(sample(1))
		time.Sleep(2 * time.Second)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if got, err := f.Load(); err != nil || len(got.Sources) != 3 {
			t.Errorf("Load = %+v, %v, want the state once the directory was there", got, err)
		}
		cancel()
		<-done
	})
}

func TestSnapshotsAreStale(t *testing.T) {
	s := sample(1)
	first := s.Sources[0].Snapshot(s.Saved.Add(90 * time.Second))
	if first.Source != "consul" || first.Synced || first.Err == nil || first.Err.Error() != "from state file, 1m30s old" ||
		!first.StaleSince.Equal(s.Saved) || len(first.Services) != 2 {
		t.Errorf("snapshot %+v", first)
	}
}

func FuzzDecode(f *testing.F) {
	good, err := encode(sample(1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, true)
	_, text, _ := bytes.Cut(good, []byte("\n"))
	f.Add(text, false)
	f.Add([]byte(`{"owners":{"x":"y"}}`), false)
	f.Fuzz(func(t *testing.T, data []byte, whole bool) {
		if !whole { // a right header, so that the body is reached
			data = withHeader(data)
		}
		s, err := decode(data)
		if err != nil {
			return
		}
		again, err := encode(s)
		if err != nil {
			t.Skip() // years that JSON cannot say
		}
		if got, err := decode(again); err != nil || !reflect.DeepEqual(got, s) {
			t.Errorf("second round trip: %+v, %v\nfirst %+v", got, err, s)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	var s State
	src := Source{Name: "consul"}
	for i := range 2000 {
		svc := source.Service{Name: fmt.Sprintf("service-%04d", i)}
		for j := range 10 {
			svc.Instances = append(svc.Instances, source.Instance{
				ID: fmt.Sprintf("node-%d/%d", j, i), Host: "10.0.0.1", Port: 1 + i, Tags: []string{"dill", "dill.listener=any:5000"},
			})
		}
		src.Services = append(src.Services, svc)
	}
	s.Sources = []Source{src}
	b.ReportAllocs()
	for b.Loop() {
		data, err := encode(s)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(data)))
	}
}
