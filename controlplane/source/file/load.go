package file

import (
	"dill/controlplane/regular"
	"dill/controlplane/source/routing"
)

// load reads the file at path, and returns how it looked before.
func load(path string) ([]byte, regular.Stamp, error) {
	seen := regular.Look(path)
	data, err := regular.Read(path, routing.MaxSize)
	return data, seen, err
}
