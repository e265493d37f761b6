package consultest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// Options say what kind of agent to start. The zero value is `agent -dev`:
// everything in memory, nothing encrypted, everything allowed.
type Options struct {
	// Server starts a server that keeps its state in a data directory and has
	// it again after Restart, instead of a -dev agent, which forgets it.
	Server bool

	// ACL denies by default whatever a token does not allow. Agent.Token is
	// the management token.
	ACL bool

	// TLS says how the HTTP API is served.
	TLS TLS

	// Extra is configuration of the agent's own, as JSON or HCL. It has the
	// last word.
	Extra string

	// Dir takes configuration, log and data. New fills it in; for Start it
	// must exist.
	Dir string
}

// TLS says how the HTTP API is served.
type TLS int

const (
	Plain  TLS = iota // http
	Server            // https
	Mutual            // https, and clients need a certificate
)

// token is the management token of agents with ACLs.
const token = "11111111-2222-3333-4444-555555555555"

// node is what tells one agent of a cluster from the others.
type node struct {
	name    string
	ports   *ports
	servers int   // in the cluster
	join    []int // gossip ports of the others
}

// write puts the configuration into o.Dir and returns the arguments that start
// the agent with it.
func (o Options) write(n node, c *certificates) (args []string, err error) {
	type object = map[string]any
	listen := object{
		"http": n.ports.api, "https": -1, "server": n.ports.server, "serf_lan": n.ports.serf,
		"serf_wan": -1, "dns": -1, "grpc": -1, "grpc_tls": -1,
	}
	conf := object{
		"node_name":            n.name,
		"bind_addr":            "127.0.0.1",
		"client_addr":          "127.0.0.1",
		"log_level":            "warn",
		"disable_update_check": true,
		"disable_host_node_id": true, // several agents on one host are several nodes
		"ports":                listen,
		"performance":          object{"raft_multiplier": 1},
	}
	if o.Server {
		conf["server"] = true
		conf["bootstrap_expect"] = n.servers
		conf["data_dir"] = filepath.Join(o.Dir, "data")
	}
	if len(n.join) > 0 {
		var join []string
		for _, port := range n.join {
			join = append(join, fmt.Sprintf("127.0.0.1:%d", port))
		}
		conf["retry_join"] = join
		conf["retry_interval"] = "1s"
	}
	if o.ACL {
		conf["acl"] = object{
			"enabled": true, "default_policy": "deny",
			"tokens": object{"initial_management": token, "agent": token},
		}
	}
	if o.TLS != Plain {
		listen["http"], listen["https"] = -1, n.ports.api
		conf["tls"] = object{"https": object{
			"ca_file": c.CA, "cert_file": c.serverCert, "key_file": c.serverKey,
			"verify_incoming": o.TLS == Mutual,
		}}
	}
	text, err := json.MarshalIndent(conf, "", "  ")
	if err != nil {
		return nil, err
	}
	file := filepath.Join(o.Dir, "consul.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, err
	}
	args = []string{"agent", "-config-file", file}
	if !o.Server {
		args = append(args, "-dev")
	}
	if o.Extra != "" {
		// Consul reads JSON as HCL, too.
		extra := filepath.Join(o.Dir, "extra.hcl")
		if err := os.WriteFile(extra, []byte(o.Extra), 0o600); err != nil {
			return nil, err
		}
		args = append(args, "-config-file", extra)
	}
	return args, nil
}
