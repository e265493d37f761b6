package regular

import (
	"os"
	"syscall"
	"time"
)

// Stamp is what can be told of a file without reading it. The zero Stamp is that
// of no file.
type Stamp struct {
	id identity
	at time.Time // when it was looked at
}

// identity differs between two files, and between two contents of one unless
// they were written within a tick. The time of change is there because, unlike
// the time of modification, nobody can set it back.
type identity struct {
	dev, ino          uint64
	size              int64
	modified, changed syscall.Timespec
}

// tick is more than the granularity of file times: within it two changes may
// carry the same one.
const tick = 50 * time.Millisecond

// Look returns the stamp of the file at path, following symbolic links. One that
// cannot be looked at is no file.
func Look(path string) Stamp {
	at := time.Now()
	info, err := os.Stat(path)
	if err != nil {
		return Stamp{}
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return Stamp{}
	}
	return Stamp{identity{uint64(st.Dev), st.Ino, st.Size, st.Mtim, st.Ctim}, at}
}

// Age is how long before the look the file was last changed.
func (s Stamp) Age() time.Duration {
	return s.at.Sub(time.Unix(s.id.changed.Unix()))
}

// Alike tells that the file looks like the one of earlier.
func (s Stamp) Alike(earlier Stamp) bool { return s.id == earlier.id }

// Same tells that the file is, beyond doubt, the one of earlier: what is written
// right after a look may leave the stamp as it was.
func (s Stamp) Same(earlier Stamp) bool {
	return s.Alike(earlier) && (s == Stamp{} || earlier.Age() > tick)
}
