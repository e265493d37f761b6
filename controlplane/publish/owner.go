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

// finder looks an instance up by its listener's owner and its own ID.
type finder func(owner, id string) (source.Instance, bool)

// findIn returns a finder over the services of each source. They are sorted,
// so it needs no index.
func findIn(services func(source string) []source.Service) finder {
	return func(owner, id string) (source.Instance, bool) {
		from, name, _ := strings.Cut(owner, "/")
		in := services(from)
		s, ok := position(in, name)
		if !ok {
			return source.Instance{}, false
		}
		i, ok := slices.BinarySearchFunc(in[s].Instances, id, func(i source.Instance, id string) int { return strings.Compare(i.ID, id) })
		if !ok {
			return source.Instance{}, false
		}
		return in[s].Instances[i], true
	}
}

// position finds a service by name in a sorted list.
func position(in []source.Service, name string) (int, bool) {
	return slices.BinarySearchFunc(in, name, func(s source.Service, name string) int { return strings.Compare(s.Name, name) })
}
