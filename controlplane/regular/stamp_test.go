package regular

import (
	"os"
	"testing"
	"time"
)

// settled waits until the file at path is older than a tick, and returns its
// stamp.
func settled(t *testing.T, path string) Stamp {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		if s := Look(path); s.Age() > tick {
			return s
		}
		if time.Now().After(deadline) {
			t.Fatal("the file does not grow old")
		}
		<-time.After(tick / 10)
	}
}

func TestStamp(t *testing.T) {
	path := write(t, "12345")
	if s := Look(path); s.Same(s) {
		t.Error("a file that was just written is the same beyond doubt")
	}
	before := settled(t, path)
	if !Look(path).Same(before) {
		t.Error("an old file is not the same")
	}
	if none := Look(path + ".not"); !none.Same(Stamp{}) || none.Alike(before) {
		t.Errorf("a missing file is %+v", none)
	}

	// Another of equal size and time, moved over it.
	old := time.Unix(1e9, 0)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	before = settled(t, path)
	other := write(t, "54321")
	if err := os.Chtimes(other, old, old); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(other, path); err != nil {
		t.Fatal(err)
	}
	if Look(path).Alike(before) {
		t.Error("a replacement of equal size and time looks the same")
	}

	// Written in place, and its time set back.
	before = settled(t, path)
	if err := os.WriteFile(path, []byte("abcde"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	if Look(path).Alike(before) {
		t.Error("a file that was written, with its time set back, looks the same")
	}
}
