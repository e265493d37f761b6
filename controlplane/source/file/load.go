package file

import (
	"errors"

	"dill/controlplane/regular"
	"dill/controlplane/source/routing"
)

// Read returns what is in the routing file at path, whose extension says its
// format. An error means that nothing of it can be used; it does not name the
// path.
func Read(path string) (routing.Document, error) {
	format, ok := routing.FormatOf(path)
	if !ok {
		return routing.Document{}, errFormat
	}
	data, err := regular.Read(path, routing.MaxSize)
	if err != nil {
		return routing.Document{}, err
	}
	return routing.Decode(format, data)
}

var errFormat = errors.New("unknown format; want a name that ends in " + routing.Extensions)

// load reads the file at path, and returns how it looked before.
func load(path string) ([]byte, regular.Stamp, error) {
	seen := regular.Look(path)
	data, err := regular.Read(path, routing.MaxSize)
	return data, seen, err
}
