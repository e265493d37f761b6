package consul

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"dill/controlplane/source"
)

// confirm reads the catalog and every service in it consistently; stale are
// those that cannot be read. known is what to ask for, too, where ACLs hide part
// of the catalog.
func (s *session) confirm(ctx context.Context, known []source.Service) (all []source.Service, stale []source.Stale, err error) {
	if !acquire(ctx, s.slots) {
		return nil, nil, ctx.Err()
	}
	services, r, err := s.c.services(ctx, query{consistent: true, filter: tagged})
	<-s.slots
	if err != nil {
		return nil, nil, err
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
			return nil, nil, err
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mu sync.Mutex
	each(ctx, s.slots, confirmers, sortedNames(listed), func(name string) {
		answer, r, err := s.askSoon(ctx, name)
		if err == nil && r.filtered {
			err = errHidden
		}
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err != nil && broken(err):
			cancel(err)
		case err != nil:
			stale = append(stale, source.Stale{Service: name, Err: plain(err)})
		case len(answer.service.Instances) > 0:
			all = append(all, answer.service)
		}
	})
	if err := context.Cause(ctx); err != nil {
		return nil, nil, err
	}
	slices.SortFunc(all, func(a, b source.Service) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(stale, func(a, b source.Stale) int { return cmp.Compare(a.Service, b.Service) })
	return all, stale, nil
}

// soon is how long one service may take of the time for a Confirm: the others are
// to be asked, too.
const soon = 3 * time.Second

// askSoon reads one service consistently, if that takes no longer than soon.
func (s *session) askSoon(ctx context.Context, name string) (reading, reply, error) {
	q := query{consistent: true}
	short, cancel := context.WithTimeout(ctx, soon)
	defer cancel()
	answer, r, err := s.askService(short, name, q)
	if err != nil && short.Err() != nil {
		err = s.alone(ctx, q, err)
	}
	return answer, r, err
}
