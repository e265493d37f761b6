package consul

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"

	"dill/controlplane/source/outgoing"
)

const (
	// holdTimeout is how long a server holds a query while there is no leader
	// (Consul's rpc_hold_timeout).
	holdTimeout = 7 * time.Second

	// promptTimeout is for queries that do not wait for a change.
	promptTimeout = holdTimeout + 3*time.Second

	// maxBody bounds what is read of one answer. 20,000 services with ten
	// checks each stay well below it.
	maxBody = 256 << 20

	// tagged selects the services that ask for a listener. Servers before 1.14
	// ignore it, so every answer is filtered again here.
	tagged = `"dill" in ServiceTags`
)

// client is one set of connections to Consul, and the queries dill makes. It is
// safe for concurrent use. Its errors are raw: see broken and plain.
type client struct {
	cfg       Config
	token     *token
	api       *api.Client
	prefix    string // of every path
	transport *http.Transport
	counters  *counters
}

// query says how to ask.
type query struct {
	index      uint64 // wait for a change after it, 0 = answer at once
	consistent bool   // more than the configuration asks for
	filter     string
}

// reply is what Consul says about an answer.
type reply struct {
	index    uint64
	filtered bool          // by ACLs: the answer may lack something
	denying  bool          // what no token allows is denied
	lag      time.Duration // since the server that answered heard from the leader
	http2    bool
	began    time.Time // when the first of it arrived
}

func newClient(cfg Config, tok *token, dial dialFunc, count *counters) (*client, error) {
	conf, err := cfg.TLS.load()
	if err != nil {
		return nil, err
	}
	c := &client{cfg: cfg, token: tok, counters: count}
	c.transport = &http.Transport{
		DialContext:            counted(dial, &count.connections),
		TLSClientConfig:        conf,
		TLSHandshakeTimeout:    2 * dialTimeout,
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: outgoing.UserTimeout, PingTimeout: outgoing.UserTimeout},
		MaxConnsPerHost:        cfg.MaxConnections,
		MaxIdleConnsPerHost:    cfg.MaxConnections, // the default would reconnect for each query
		IdleConnTimeout:        time.Minute,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true, // the agent is near
	}
	u, err := url.Parse(cfg.Address)
	if err != nil {
		return nil, errors.New("consul address: no URL") // the error may show a password
	}
	c.prefix = prefix(u)
	scheme, host := u.Scheme, u.Host
	if scheme == "unix" {
		scheme, host = "http", "localhost" // api would replace the transport by one of its own
	}
	text, _ := tok.get()
	c.api, err = api.NewClient(&api.Config{
		// What is empty here, api takes from the environment; that has been done,
		// and the address and its scheme are not to be had from two places. A
		// prefix that is empty but for its slash would double that one.
		Address:    scheme + "://" + host + c.prefix,
		Scheme:     scheme,
		Token:      text,
		Datacenter: cfg.Datacenter,
		Namespace:  cfg.Namespace,
		Partition:  cfg.Partition,
		HttpAuth:   basicAuth(u.User),
		HttpClient: &http.Client{
			Transport: c,
			// Consul redirects nothing that dill asks. What stands before it
			// may, and must not get the token to take elsewhere.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	})
	return c, err
}

// basicAuth is what a proxy in front of Consul may ask for; nil without a user.
func basicAuth(u *url.Userinfo) *api.HttpBasicAuth {
	if u == nil {
		return nil
	}
	password, _ := u.Password()
	return &api.HttpBasicAuth{Username: u.Username(), Password: password}
}

// close drops the idle connections; those in use end with their requests.
func (c *client) close() { c.transport.CloseIdleConnections() }

// replyKey is the context key of the *reply that RoundTrip fills in. The
// api package reads some headers only if others are there, which they are not
// in answers from an agent's own cache.
type replyKey struct{}

// RoundTrip makes the client a http.RoundTripper, for package api.
func (c *client) RoundTrip(req *http.Request) (*http.Response, error) {
	c.counters.request(req.URL.Path)
	req = c.segmented(req)
	if c.cfg.Consistency == Leader && !strings.Contains(req.URL.RawQuery, "consistent") {
		req = req.Clone(req.Context())
		req.URL.RawQuery += "&leader=" // package api has no option for it
	}
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if r, ok := req.Context().Value(replyKey{}).(*reply); ok {
		r.read(resp)
	}
	resp.Body = &limitedBody{resp.Body, maxBody}
	return resp, nil
}

func (r *reply) read(resp *http.Response) {
	// One that is missing, or no number, counts as the lowest there is.
	index, _ := strconv.ParseUint(resp.Header.Get("X-Consul-Index"), 10, 64)
	r.index = max(index, 1)
	r.filtered = resp.Header.Get("X-Consul-Results-Filtered-By-ACLs") == "true"
	r.denying = resp.Header.Get("X-Consul-Default-ACL-Policy") == "deny"
	if ms, err := strconv.ParseUint(resp.Header.Get("X-Consul-LastContact"), 10, 32); err == nil {
		r.lag = time.Duration(ms) * time.Millisecond
	}
	r.began = time.Now()
	r.http2 = resp.ProtoMajor == 2
}

// limitedBody fails once more than left bytes were read.
type limitedBody struct {
	io.ReadCloser
	left int
}

var errTooLong = errors.New("consul's answer is too long")

func (b *limitedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLong
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// ask makes one query through call, which gets the options to use. One that is
// refused because the token has just been replaced is made again.
func (c *client) ask(ctx context.Context, q query, call func(*api.QueryOptions) error) (reply, error) {
	text, err := c.token.get()
	if text == "" && err != nil {
		return reply{}, err
	}
	r, err := c.askAs(ctx, text, q, call)
	if refused(err) && c.token.renewed(ctx, text) {
		text, _ = c.token.get()
		r, err = c.askAs(ctx, text, q, call)
	}
	return r, err
}

// askAs is ask with this token.
func (c *client) askAs(ctx context.Context, text string, q query, call func(*api.QueryOptions) error) (reply, error) {
	var r reply
	limit := promptTimeout
	if q.index > 0 {
		// The server adds up to a sixteenth to what it was asked to wait.
		limit = c.cfg.Wait + c.cfg.Wait/16 + holdTimeout
	}
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, replyKey{}, &r), limit)
	defer cancel()
	var conn net.Conn // the last one that was tried
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { conn = info.Conn },
	})
	options := &api.QueryOptions{
		Token:             text,
		Filter:            q.filter,
		WaitIndex:         q.index,
		AllowStale:        c.cfg.Consistency == Stale && !q.consistent,
		RequireConsistent: c.cfg.Consistency == Consistent || q.consistent,
	}
	if q.index > 0 {
		options.WaitTime = c.cfg.Wait
	}
	err := call(options.WithContext(traced))
	switch {
	case err == nil, !broken(err):
	case ctx.Err() != nil:
		err = ctx.Err() // whatever it broke, the time was out
	default:
		err = unwanted(conn, err)
	}
	return r, err
}

// probe finds out whether anybody is there, with a question that every agent
// answers at once, whatever else it knows. A network that swallows everything
// is told from a slow catalog that way, and not waited for.
func (c *client) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	_, err := c.ask(ctx, query{}, func(o *api.QueryOptions) error {
		_, err := c.api.Status().LeaderWithQueryOptions(o)
		return err
	})
	if err != nil && !unreachable(err) {
		if alert := c.alert(ctx); alert != nil {
			return alert
		}
	}
	return err
}

// alert connects once more to hear what a server has against the client's
// certificate. It says so only after the handshake, in the midst of the first
// request, where package http keeps to itself whatever does not come in time.
// It is nil when the server has nothing to say.
func (c *client) alert(ctx context.Context) error {
	u, err := url.Parse(c.cfg.Address)
	if err != nil || u.Scheme != "https" {
		return nil
	}
	raw, err := c.transport.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "443")))
	if err != nil {
		return nil
	}
	defer raw.Close()
	defer context.AfterFunc(ctx, func() { raw.Close() })()
	conf := c.transport.TLSClientConfig.Clone()
	conf.ServerName = cmp.Or(conf.ServerName, u.Hostname())
	conf.NextProtos = nil // HTTP/2 would have the server speak first
	_, err = tls.Client(raw, conf).Read(make([]byte, 1))
	var network *net.OpError
	if errors.As(err, &network) && network.Op == "remote error" {
		return err
	}
	return nil
}

// services asks which services there are, and for the tags of each.
func (c *client) services(ctx context.Context, q query) (services map[string][]string, r reply, err error) {
	r, err = c.ask(ctx, q, func(o *api.QueryOptions) (err error) {
		services, _, err = c.api.Catalog().Services(o)
		return err
	})
	if err == nil && services == nil {
		err = errors.New("consul's answer is no catalog")
	}
	return services, r, err
}

// service asks for all instances of one service, healthy or not.
func (c *client) service(ctx context.Context, name string, q query) (entries []*api.ServiceEntry, r reply, err error) {
	if err := askable(name); err != nil {
		return nil, r, err
	}
	r, err = c.ask(ctx, q, func(o *api.QueryOptions) (err error) {
		entries, _, err = c.api.Health().Service(name, "", false, o)
		return err
	})
	if err == nil && entries == nil {
		err = errors.New("consul's answer is no list of instances")
	}
	return exactly(name, entries), r, err
}

// exactly returns the instances of the service with exactly this name: Consul
// ignores case, and answers with those of Web where it is asked for web.
func exactly(name string, entries []*api.ServiceEntry) []*api.ServiceEntry {
	return slices.DeleteFunc(entries, func(e *api.ServiceEntry) bool {
		return e != nil && e.Service != nil && e.Service.Service != "" && e.Service.Service != name
	})
}

// checks asks for all checks of the datacenter. Their number can be large, so
// only what the hint needs is decoded.
func (c *client) checks(ctx context.Context, q query) (checks []check, r reply, err error) {
	r, err = c.ask(ctx, q, func(o *api.QueryOptions) error {
		_, err := c.api.Raw().Query("/v1/health/state/"+api.HealthAny, &checks, o)
		return err
	})
	return checks, r, err
}

// nodes asks for the names of all nodes.
func (c *client) nodes(ctx context.Context) (names []string, err error) {
	_, err = c.ask(ctx, query{}, func(o *api.QueryOptions) error {
		nodes, _, err := c.api.Catalog().Nodes(o)
		for _, n := range nodes {
			if n != nil {
				names = append(names, n.Node)
			}
		}
		return err
	})
	return names, err
}

// onNode asks for what is registered on a node. That can be a lot, so only what
// a sweep needs is decoded.
func (c *client) onNode(ctx context.Context, node string) (services []registration, r reply, err error) {
	var answer struct{ Services []registration }
	r, err = c.ask(ctx, query{filter: `"dill" in Tags`}, func(o *api.QueryOptions) error {
		_, err := c.api.Raw().Query(nodePath+node, &answer, o)
		return err
	})
	return answer.Services, r, err
}
