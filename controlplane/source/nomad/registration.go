package nomad

import (
	"cmp"
	"slices"
	"strings"

	"dill/controlplane/source"
)

const (
	tagDill = "dill"

	allNamespaces = "*"
)

// listing is an element of /v1/services: the services of one namespace.
type listing struct {
	Namespace string
	Services  []struct {
		ServiceName string
		Tags        []string // of all instances together
	}
}

// registration is an element of /v1/service/<name>: one instance.
type registration struct {
	ID          string
	AllocID     string
	Address     string
	Port        int
	Tags        []string
	CreateIndex uint64
}

// key names a service within Nomad.
type key struct{ namespace, name string }

// text is the name that the service has outside of this package.
func (k key) text(qualified bool) string {
	if qualified {
		return k.namespace + "/" + k.name
	}
	return k.name
}

// wanted returns the services that ask for a listener.
func wanted(list []listing) map[key]bool {
	keys := make(map[key]bool)
	for _, l := range list {
		for _, s := range l.Services {
			if s.ServiceName != "" && slices.Contains(s.Tags, tagDill) {
				keys[key{l.Namespace, s.ServiceName}] = true
			}
		}
	}
	return keys
}

// serviceOf returns the registrations as a service. Its name carries the
// namespace if qualified.
func serviceOf(k key, list []registration, qualified bool) source.Service {
	s := source.Service{Name: k.text(qualified)}
	for _, r := range list {
		id := r.ID
		if id == "" {
			id = r.AllocID
		}
		s.Instances = append(s.Instances, source.Instance{
			ID:          id,
			Host:        source.Unbracketed(r.Address),
			Port:        r.Port,
			Tags:        dillTags(r.Tags),
			CreateIndex: r.CreateIndex,
		})
		if s.CreateIndex == 0 || r.CreateIndex < s.CreateIndex {
			s.CreateIndex = r.CreateIndex
		}
	}
	slices.SortFunc(s.Instances, func(a, b source.Instance) int {
		return cmp.Or(strings.Compare(a.ID, b.ID), -cmp.Compare(a.CreateIndex, b.CreateIndex))
	})
	s.Instances = slices.CompactFunc(s.Instances, func(a, b source.Instance) bool { return a.ID == b.ID })
	return s
}

// dillTags leaves out the tags that are others' business: their change is
// none here.
func dillTags(tags []string) []string {
	var ours []string
	for _, t := range tags {
		if source.IsTag(t) {
			ours = append(ours, t)
		}
	}
	return ours
}
