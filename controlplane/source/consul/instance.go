package consul

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"

	"dill/controlplane/source"
)

const tag = "dill" // asks for a listener

// ours returns those of tags that are meant for dill, in their order: tags
// itself if all are.
func ours(tags []string) []string {
	n := 0
	for _, t := range tags {
		if source.IsTag(t) {
			n++
		}
	}
	switch n {
	case 0:
		return nil
	case len(tags):
		return tags
	}
	out := make([]string, 0, n)
	for _, t := range tags {
		if source.IsTag(t) {
			out = append(out, t)
		}
	}
	return out
}

// asking picks the services that ask for a listener from a catalog, with the
// union of their instances' tags, sorted.
func asking(catalog map[string][]string) map[string][]string {
	out := make(map[string][]string, len(catalog))
	for name, tags := range catalog {
		if slices.Contains(tags, tag) {
			t := ours(tags)
			if !slices.IsSorted(t) {
				t = slices.Sorted(slices.Values(t))
			}
			out[name] = t
		}
	}
	return out
}

// sidecar tells whether a registration is a mesh proxy. It inherits its
// service's tags, but speaks to nobody without a certificate of the mesh.
func sidecar(s *api.AgentService) bool { return s.Kind == api.ServiceKindConnectProxy }

// read makes a Service of what Consul says about it. Instances without a tag
// of dill's are left out. An answer that is partly nonsense is refused whole.
func read(name string, entries []*api.ServiceEntry) (source.Service, error) {
	s := source.Service{Name: name}
	for _, e := range entries {
		if e == nil || e.Node == nil || e.Service == nil || slices.Contains(e.Checks, nil) {
			return source.Service{}, errors.New("consul's answer has an instance without node, service or check")
		}
		tags := ours(e.Service.Tags)
		if len(tags) == 0 || sidecar(e.Service) {
			continue
		}
		health := aggregate(e.Checks)
		s.Instances = append(s.Instances, source.Instance{
			ID:          instanceID(e.Node.Node, e.Service.ID),
			Host:        source.Unbracketed(cmp.Or(e.Service.Address, e.Node.Address)),
			Port:        port(e.Service),
			Tags:        tags,
			Health:      health,
			Weight:      weight(e.Service.Weights, health),
			CreateIndex: e.Service.CreateIndex,
		})
	}
	slices.SortStableFunc(s.Instances, func(a, b source.Instance) int { return cmp.Compare(a.ID, b.ID) })
	s.Instances = slices.CompactFunc(s.Instances, func(a, b source.Instance) bool { return a.ID == b.ID })
	s.CreateIndex = oldest(s.Instances)
	return s, nil
}

// oldest returns the lowest CreateIndex.
func oldest(instances []source.Instance) uint64 {
	var lowest uint64
	for i, inst := range instances {
		if i == 0 || inst.CreateIndex < lowest {
			lowest = inst.CreateIndex
		}
	}
	return lowest
}

// instanceID names an instance: the ID of a service is its agent's own.
func instanceID(node, id string) string { return node + "/" + id }

// port returns the port that a service is reached at, 0 for none.
func port(s *api.AgentService) int {
	if s.Port != 0 {
		return s.Port
	}
	for _, p := range s.Ports {
		if p.Default || len(s.Ports) == 1 {
			return p.Port
		}
	}
	return 0
}

// weight returns the weight that applies in this state of health. One that is
// not served keeps the weight it would have if it were. Consul completes
// weights that are missing altogether by 1 and 1, and takes none of 0 for
// passing: of a registration that names only Passing, Warning is 0, as if that
// had been written.
func weight(w api.AgentWeights, h source.Health) int {
	switch {
	case h != source.Warning:
		return max(w.Passing, 0)
	case w.Warning <= 0 && w.Passing > 0:
		return source.NoTraffic
	}
	return max(w.Warning, 0)
}

// aggregate is the state of an instance, given its own checks and its node's:
// the worst of them, where maintenance is an operator's word and above all.
func aggregate(checks api.HealthChecks) source.Health {
	worst := source.Passing
	for _, c := range checks {
		worst = max(worst, health(c))
	}
	return worst
}

func health(c *api.HealthCheck) source.Health {
	if c.CheckID == api.NodeMaint || strings.HasPrefix(c.CheckID, api.ServiceMaintPrefix) {
		return source.Maintenance
	}
	switch c.Status {
	case api.HealthPassing:
		return source.Passing
	case api.HealthWarning:
		return source.Warning
	}
	return source.Critical // or something nobody knows, which is no reason to send clients there
}

// lacks tells whether fresh has not all the instances that old has.
func lacks(fresh, old source.Service) bool {
	return len(union(old, fresh).Instances) > len(fresh.Instances)
}

// union returns fresh and those of old that fresh lacks, marked as kept.
func union(old, fresh source.Service) source.Service {
	all, index := slices.Clone(fresh.Instances), fresh.CreateIndex
	if len(all) == 0 {
		index = old.CreateIndex
	}
	for _, o := range old.Instances {
		if !slices.ContainsFunc(fresh.Instances, func(f source.Instance) bool { return f.ID == o.ID }) {
			all = append(all, o.Keep())
		}
	}
	slices.SortFunc(all, func(a, b source.Instance) int { return cmp.Compare(a.ID, b.ID) })
	return source.Service{Name: old.Name, Instances: all, CreateIndex: index}
}
