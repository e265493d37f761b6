// Package regular reads the files that users name in settings: configuration,
// routes, tokens, certificates, state.
//
// A path is foreign input. What stands there may be a FIFO, which nobody writes
// to, a device, whose mere opening has effects, or a file without an end. None
// of them is read: each is looked at before it is opened, opening does not wait,
// and what was opened is looked at again, since it may be another file by then.
//
// A network file system that hangs holds up even the look. No call here is for
// a goroutine that others wait for without a bound.
package regular

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// ErrNotRegular is the error for a directory, FIFO, device or socket.
var ErrNotRegular = errors.New("not a regular file")

// Read returns what is in the file at path, at most limit bytes of it: a longer
// one is an error. Errors do not name the path; errors.Is(err, fs.ErrNotExist)
// and ErrNotRegular hold through them.
func Read(path string, limit int) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, bare("open", err)
	}
	if !info.Mode().IsRegular() {
		return nil, ErrNotRegular
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, bare("open", err)
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil {
		return nil, bare("open", err)
	}
	if !info.Mode().IsRegular() {
		return nil, ErrNotRegular
	}
	b, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err != nil {
		return nil, bare("read", err)
	}
	if len(b) > limit {
		return nil, fmt.Errorf("larger than %d bytes", limit)
	}
	return b, nil
}

// PEMLimit is the longest PEM file that is read, in bytes. Bundles of all public
// authorities are a quarter of it.
const PEMLimit = 1 << 20

// KeyPair is tls.LoadX509KeyPair for foreign paths.
func KeyPair(cert, key string) (tls.Certificate, error) {
	certPEM, err := Read(cert, PEMLimit)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("%s: %w", cert, err)
	}
	keyPEM, err := Read(key, PEMLimit)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("%s: %w", key, err)
	}
	return tls.X509KeyPair(certPEM, keyPEM)
}

// bare replaces the path in err by what was being done.
func bare(doing string, err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		err = p.Err
	}
	return fmt.Errorf("%s: %w", doing, err)
}
