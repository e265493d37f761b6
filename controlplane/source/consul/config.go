package consul

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"time"

	"dill/controlplane/regular"
)

// Config says which Consul to watch, and how. Zero values mean the defaults.
type Config struct {
	Address    string // URL: http or https, with or without user:password@ (HTTP basic auth) and a path, or unix:///path
	Token      string
	TokenFile  string // has precedence over Token; read again when it changes
	Datacenter string // "" = the agent's
	Namespace  string // Consul Enterprise
	Partition  string // Consul Enterprise

	// Wait is how long one blocking query waits for a change, at least 1 s.
	// Consul waits for MaxWait at most.
	Wait time.Duration

	// Consistency says which server may answer.
	Consistency Consistency

	// MaxConnections is the most connections held at once. Agents allow 200
	// from one address by default, shared by everything on it. At least
	// reserve + 3, or Wait and the tiers cannot work.
	MaxConnections int

	// OpenFiles is how many descriptors there are for connections, where that is
	// less than MaxConnections: then it is their limit, but for fewConnections.
	// 0 = enough.
	OpenFiles int

	TLS TLS
}

// Defaults of Config.
const (
	DefaultAddress        = "http://127.0.0.1:8500"
	DefaultWait           = 40 * time.Second
	DefaultMaxConnections = 150
)

// fewConnections is the least that works: the catalog, the hint, a watch, and
// what is asked now.
const fewConnections = 6

// unwatched is how many of the connections are never used for watches.
func (c Config) unwatched() int { return min(reserve, c.MaxConnections-3) }

// MaxWait is Consul's max_query_time, as it is unless configured otherwise.
const MaxWait = 10 * time.Minute

// Consistency says which server may answer a query.
type Consistency string

const (
	Default    Consistency = "default"    // the leader
	Consistent Consistency = "consistent" // the leader, after it asked a quorum
	Stale      Consistency = "stale"      // any, also without a leader
	Leader     Consistency = "leader"     // Default, also where the agent prefers Stale
)

// TLS is how to authenticate Consul, and dill to it. Paths are of PEM files,
// which are read again for each new set of connections.
type TLS struct {
	CA         string // "" = the system's
	Cert, Key  string // both or neither
	ServerName string // "" = the host in the address
	Insecure   bool   // do not verify the server
}

// complete fills in the defaults and checks what can be checked without
// asking Consul.
func (c Config) complete() (Config, error) {
	c.Address = cmp.Or(c.Address, DefaultAddress)
	c.Wait = cmp.Or(c.Wait, DefaultWait)
	c.MaxConnections = cmp.Or(c.MaxConnections, DefaultMaxConnections)
	c.Consistency = cmp.Or(c.Consistency, Default)
	u, err := url.Parse(c.Address)
	switch {
	case err != nil: // which quotes parts of it
		return c, errors.New("consul address: no URL")
	case u.RawQuery != "" || u.Fragment != "":
		return c, errors.New("consul address: want no ? and no # in it")
	case (u.Scheme == "http" || u.Scheme == "https") && u.Host != "":
	case u.Scheme == "unix" && u.Host+u.Path != "":
	default: // unquoted: a token may stand anywhere in it
		return c, errors.New("consul address: want http://host:port, https://host:port or unix:///path")
	}
	switch c.Consistency {
	case Default, Consistent, Stale, Leader:
	default:
		return c, fmt.Errorf("consul consistency %q: want default, consistent, stale or leader", c.Consistency)
	}
	if least := reserve + 3; c.MaxConnections < least {
		return c, fmt.Errorf("consul connections %d: want at least %d", c.MaxConnections, least)
	}
	if c.OpenFiles > 0 {
		c.MaxConnections = min(c.MaxConnections, max(c.OpenFiles, fewConnections))
	}
	if c.Wait < time.Second {
		return c, fmt.Errorf("consul wait %v: want at least 1s", c.Wait)
	}
	c.Wait = min(c.Wait, MaxWait)
	_, err = c.TLS.load()
	return c, err
}

// load reads the certificates.
func (t TLS) load() (*tls.Config, error) {
	conf := &tls.Config{ServerName: t.ServerName, InsecureSkipVerify: t.Insecure}
	if t.CA != "" {
		text, err := regular.Read(t.CA, regular.PEMLimit)
		if err != nil {
			return nil, fmt.Errorf("consul ca %s: %w", t.CA, err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("consul ca %s: no PEM certificate in it", t.CA)
		}
	}
	if t.Cert != "" || t.Key != "" {
		own, err := regular.KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, fmt.Errorf("consul certificate: %w", err)
		}
		conf.Certificates = []tls.Certificate{own}
	}
	return conf, nil
}
