package file

import (
	"io/fs"
	"os"
	"time"

	"dill/controlplane/regular"
	"dill/controlplane/source/routing"
)

// stamp is what can be told of a file without reading it.
type stamp struct {
	info fs.FileInfo // nil if there is no such file
	at   time.Time   // when it was looked at
}

// tick is more than the granularity of file times: within it two changes may
// carry the same one.
const tick = 50 * time.Millisecond

// look follows symbolic links.
func look(path string) stamp {
	at := time.Now()
	info, err := os.Stat(path)
	if err != nil {
		info = nil
	}
	return stamp{info, at}
}

// same tells that the file is, beyond doubt, the one that read saw.
func (s stamp) same(read stamp) bool {
	if !s.sameFile(read) {
		return false
	}
	// A change right after the read may have left size and time as they were.
	return s.info == nil || read.at.Sub(s.info.ModTime()) > tick
}

// sameFile tells that the file looks like the one that read saw.
func (s stamp) sameFile(read stamp) bool {
	if s.info == nil || read.info == nil {
		return s.info == nil && read.info == nil
	}
	return os.SameFile(s.info, read.info) && s.info.Size() == read.info.Size() &&
		s.info.ModTime().Equal(read.info.ModTime())
}

// load reads the file at path, and returns how it looked before.
func load(path string) ([]byte, stamp, error) {
	seen := look(path)
	data, err := regular.Read(path, routing.MaxSize)
	return data, seen, err
}
