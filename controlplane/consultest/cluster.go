package consultest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Cluster is several servers that elect a leader among them.
type Cluster []*Agent

// StartCluster starts n servers and waits until they all know each other.
// Each has a directory of its own below o.Dir. The caller must Close the
// cluster.
func StartCluster(ctx context.Context, n int, o Options) (Cluster, error) {
	o.Server = true
	dir := o.Dir
	reserved := make([]*ports, 0, n)
	var gossip []int
	for range n {
		p, err := reservePorts()
		if err != nil {
			releaseAll(reserved)
			return nil, err
		}
		reserved = append(reserved, p)
		gossip = append(gossip, p.serf)
	}
	var c Cluster
	for i, p := range reserved {
		name := fmt.Sprintf("node-%d", i+1)
		o.Dir = filepath.Join(dir, name)
		err := os.MkdirAll(o.Dir, 0o700)
		var a *Agent
		if err == nil {
			a, err = prepare(o, node{name: name, ports: p, servers: n, join: gossip})
		}
		if err == nil {
			c = append(c, a)
			err = a.launch()
		}
		if err != nil {
			c.Close()
			releaseAll(reserved[len(c):])
			return nil, err
		}
	}
	for _, a := range c {
		if err := a.await(ctx); err != nil {
			c.Close()
			return nil, err
		}
	}
	return c, nil
}

func releaseAll(all []*ports) {
	for _, p := range all {
		p.release()
	}
}

// Close ends all servers for good.
func (c Cluster) Close() {
	for _, a := range c {
		a.Close()
	}
}

// Leader returns the server that leads, as any server that answers knows it.
func (c Cluster) Leader() (*Agent, error) {
	for _, asked := range c {
		addr, err := asked.client.Status().Leader()
		if err != nil {
			continue
		}
		for _, a := range c {
			if strings.HasSuffix(addr, fmt.Sprintf(":%d", a.ports.server)) {
				return a, nil
			}
		}
	}
	return nil, errors.New("no leader")
}
