package consul

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"

	"github.com/hashicorp/consul/api"
)

// inventory is what a sweep over the nodes found registered, by the name of
// the service.
type inventory map[string]*listed

type listed struct {
	ids   map[string]bool // of the instances that ask for a listener
	index uint64          // at which the newest of them changed
}

// registration is what a sweep needs of an instance.
type registration struct {
	ID, Service string
	Kind        api.ServiceKind
	Tags        []string
	ModifyIndex uint64
}

// errTooManyNodes says that asking every service is cheaper than every node.
var errTooManyNodes = errors.New("more nodes than services")

// sweep asks every node what is registered on it: instances without checks
// change without a word from the checks. It costs one request and one for each
// node, of which there are to be no more than most.
func (c *client) sweep(ctx context.Context, most int, slots chan struct{}) (found inventory, requests int, err error) {
	nodes, err := c.nodes(ctx)
	if err == nil && len(nodes) > most {
		err = errTooManyNodes
	}
	if err != nil {
		return nil, 1, err
	}
	requests = 1 + len(nodes)
	var (
		mu    sync.Mutex
		all   = make(inventory)
		fails error
	)
	each(ctx, slots, sweepers, nodes, func(node string) {
		services, r, err := c.onNode(ctx, node)
		if err == nil && r.filtered {
			err = errFiltered
		}
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			fails = err
			return
		}
		all.add(node, services)
	})
	var status api.StatusError
	if errors.As(fails, &status) && status.Code == http.StatusNotFound {
		fails = errTooManyNodes // a server before 1.7 cannot list a node
	}
	return all, requests, fails
}

func (inv inventory) add(node string, services []registration) {
	for _, s := range services {
		if s.Kind == api.ServiceKindConnectProxy || !slices.Contains(s.Tags, tag) {
			continue
		}
		l := inv[s.Service]
		if l == nil {
			l = &listed{ids: make(map[string]bool)}
			inv[s.Service] = l
		}
		l.ids[instanceID(node, s.ID)] = true
		l.index = max(l.index, s.ModifyIndex)
	}
}

// outdated tells whether what is known of a service is not what the sweep
// found.
func (inv inventory) outdated(t *tracked) bool {
	l := inv[t.name]
	if l == nil {
		l = &listed{}
	}
	if l.index > t.index {
		return true
	}
	known := 0
	for _, inst := range t.last.Instances {
		if slices.Contains(inst.Tags, tag) {
			known++
			if !l.ids[inst.ID] {
				return true
			}
		}
	}
	return known != len(l.ids)
}

// each calls do for all names, from at most n goroutines, each holding a slot
// meanwhile. It returns when all calls have, or ctx has ended.
func each(ctx context.Context, slots chan struct{}, n int, names []string, do func(name string)) {
	queue := make(chan string)
	var work sync.WaitGroup
	for range min(n, len(names)) {
		work.Go(func() {
			for name := range queue {
				if !acquire(ctx, slots) {
					continue
				}
				do(name)
				<-slots
			}
		})
	}
	for _, name := range names {
		queue <- name
	}
	close(queue)
	work.Wait()
}

// acquire takes a slot; it reports false when ctx ended first.
func acquire(ctx context.Context, slots chan struct{}) bool {
	select {
	case slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}
