// Package state keeps the last good routes on disk, so that a machine that
// boots while its sources are silent still opens every port.
//
// The file is one header line followed by a JSON body:
//
//	dill-state 2 <SHA-256 of the body, hex> <length of the body in bytes>
//	{"saved":"2026-01-02T15:04:05Z","sources":[…],"owners":{"127.0.0.1:5000":"consul/web"}}
//
// It is written next to its final name, synced and renamed, so a crash leaves
// either the old file or the new one. Tags may hold SOCKS credentials:
// therefore mode 0600. A file that does not decode is set aside under a name
// of its own and reported; it never stops dill.
package state
