package consul

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"dill/controlplane/source"
)

// confirm reads the catalog and every service in it consistently. known is
// what to ask for, too, where ACLs hide part of the catalog.
func (s *session) confirm(ctx context.Context, known []source.Service) ([]source.Service, error) {
	if !acquire(ctx, s.slots) {
		return nil, ctx.Err()
	}
	services, r, err := s.c.services(ctx, query{consistent: true, filter: tagged})
	<-s.slots
	if err != nil {
		return nil, err
	}
	listed := asking(services)
	if r.filtered {
		for _, k := range known {
			if _, ok := listed[k.Name]; !ok {
				listed[k.Name] = nil
			}
		}
	}
	if len(listed) == 0 && r.denying {
		if err := s.c.diagnose(ctx); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mu sync.Mutex
	var all []source.Service
	each(ctx, s.slots, confirmers, sortedNames(listed), func(name string) {
		answer, r, err := s.askService(ctx, name, query{consistent: true})
		if err == nil && r.filtered {
			err = errHidden
		}
		if err != nil {
			cancel(err)
			return
		}
		if len(answer.service.Instances) > 0 {
			mu.Lock()
			all = append(all, answer.service)
			mu.Unlock()
		}
	})
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b source.Service) int { return cmp.Compare(a.Name, b.Name) })
	return all, nil
}
