// Package sys is every system call of the data plane, and the only importer
// of golang.org/x/sys/unix below package dataplane.
//
// The calls on the data path (Recv, Send, Splice, Accept, Wait and their kin)
// are raw: they never tell the Go scheduler, so they must not block. All file
// descriptors here are non-blocking and close-on-exec. They return an Errno
// instead of an error, because an interface would cost an allocation or a
// conversion on every call; 0 means success.
package sys

import "golang.org/x/sys/unix"

// Errno is the kernel's error number; 0 is success.
type Errno = unix.Errno

// The errors the data plane tells apart.
const (
	EAGAIN        = unix.EAGAIN
	EINTR         = unix.EINTR
	EINPROGRESS   = unix.EINPROGRESS
	ECONNRESET    = unix.ECONNRESET
	ECONNABORTED  = unix.ECONNABORTED
	ECONNREFUSED  = unix.ECONNREFUSED
	ENETUNREACH   = unix.ENETUNREACH
	EHOSTUNREACH  = unix.EHOSTUNREACH
	ETIMEDOUT     = unix.ETIMEDOUT
	ELOOP         = unix.ELOOP
	EPIPE         = unix.EPIPE
	EPROTO        = unix.EPROTO
	EACCES        = unix.EACCES
	EADDRINUSE    = unix.EADDRINUSE
	EADDRNOTAVAIL = unix.EADDRNOTAVAIL
	EMFILE        = unix.EMFILE
	ENFILE        = unix.ENFILE
	ENOBUFS       = unix.ENOBUFS
	ENOMEM        = unix.ENOMEM
	ENOENT        = unix.ENOENT
	EPERM         = unix.EPERM
	EINVAL        = unix.EINVAL
)

// Scarce reports whether e means that this machine, not the peer, ran out of
// something: file descriptors, socket memory.
func Scarce(e Errno) bool {
	return e == EMFILE || e == ENFILE || e == ENOBUFS || e == ENOMEM
}
