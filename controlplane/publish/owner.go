package publish

import (
	"slices"
	"strings"

	"dill/controlplane/source"
)

// sourceOf returns the source's name in an owner such as "consul/web".
func sourceOf(owner string) string {
	name, _, _ := strings.Cut(owner, "/")
	return name
}

// position finds a service by name in a sorted list.
func position(in []source.Service, name string) (int, bool) {
	return slices.BinarySearchFunc(in, name, func(s source.Service, name string) int { return strings.Compare(s.Name, name) })
}
