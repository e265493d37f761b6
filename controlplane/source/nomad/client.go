package nomad

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"dill/controlplane/regular"
	"dill/controlplane/source/outgoing"
)

const (
	// maxConns keeps clear of Nomad's default http_max_conns_per_client,
	// which is 100 for everything on this address. reserve of them are for
	// queries that do not block.
	maxConns = 80
	reserve  = 16

	dialTimeout = 2 * time.Second

	// hold is what a server may add to the wait of a blocking query while
	// it looks for a leader, with a margin.
	hold = 7 * time.Second

	// readTimeout is the deadline of a query that does not block.
	readTimeout = 10 * time.Second

	maxBody = 64 << 20
)

// droppedError is why a query ended that was under way when all connections were
// dropped, because of another one.
type droppedError struct{ error }

func (e droppedError) Unwrap() error { return e.error }

// client asks one Nomad server or agent. Its methods may be called from any
// goroutine.
type client struct {
	base      *url.URL
	token     string
	namespace string
	wait      time.Duration
	stale     bool
	hold      time.Duration // added to wait for the deadline
	prompt    time.Duration // deadline of a query that does not block
	http      *http.Client

	mu    sync.Mutex
	epoch *epoch
}

// epoch is the time from one drop of the connections to the next.
type epoch struct {
	ctx context.Context // ends with the epoch; its cause is why
	end context.CancelCauseFunc
	up  chan struct{} // closed once the list was read
}

// query is one GET.
type query struct {
	path      []string // unescaped segments below /v1
	namespace string
	index     uint64 // 0 = answer at once
	leader    bool   // by the leader, even in stale mode
	ofOne     bool   // about one service: others may be answered
}

// meta is what an answer says about itself.
type meta struct {
	index      uint64 // ≥ 1
	leaderless bool   // the server that answered knows no leader
}

func newClient(o Options) (*client, error) {
	base, err := url.Parse(o.Address)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" || base.RawQuery != "" {
		return nil, errors.New("nomad address: no URL; want http://host:port or https://host:port")
	}
	if base.Path == "" {
		base.Path = "/" // or JoinPath would make relative ones
	}
	tlsConfig, err := newTLS(o)
	if err != nil {
		return nil, err
	}
	c := &client{
		base:      base,
		token:     o.Token,
		namespace: o.Namespace,
		wait:      o.Wait,
		stale:     o.Stale,
		hold:      hold,
		prompt:    readTimeout,
		http: &http.Client{
			Transport: &http.Transport{
				Proxy:                  http.ProxyFromEnvironment,
				DialContext:            outgoing.Dialer(dialTimeout).DialContext,
				TLSClientConfig:        tlsConfig,
				TLSHandshakeTimeout:    dialTimeout,
				MaxConnsPerHost:        maxConns,
				MaxIdleConnsPerHost:    maxConns,
				IdleConnTimeout:        90 * time.Second,
				MaxResponseHeaderBytes: 64 << 10,
			},
			// A redirect would take the token to another host.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	c.epoch = newEpoch()
	return c, nil
}

func newTLS(o Options) (*tls.Config, error) {
	config := &tls.Config{InsecureSkipVerify: o.Insecure}
	if o.CA != "" {
		pem, err := regular.Read(o.CA, regular.PEMLimit)
		if err != nil {
			return nil, fmt.Errorf("nomad CA %s: %w", o.CA, err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("nomad CA %s: no certificate in PEM form", o.CA)
		}
	}
	if o.Cert == "" && o.Key == "" {
		return config, nil
	}
	if _, err := regular.KeyPair(o.Cert, o.Key); err != nil {
		return nil, fmt.Errorf("nomad client certificate %q, key %q: %w", o.Cert, o.Key, err)
	}
	// Read for each handshake: certificates are renewed under our feet.
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		pair, err := regular.KeyPair(o.Cert, o.Key)
		return &pair, err
	}
	return config, nil
}

func newEpoch() *epoch {
	ctx, cancel := context.WithCancelCause(context.Background())
	return &epoch{ctx: ctx, end: cancel, up: make(chan struct{})}
}

func (c *client) now() *epoch {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.epoch
}

// drop ends e, unless it has ended: its queries fail with a droppedError of why,
// and its connections are closed.
func (c *client) drop(e *epoch, why error) {
	c.mu.Lock()
	if c.epoch != e {
		c.mu.Unlock()
		return
	}
	c.epoch = newEpoch()
	c.mu.Unlock()
	e.end(why)
	c.http.CloseIdleConnections()
}

// close ends the last epoch. No query may be under way.
func (c *client) close() {
	c.now().end(nil)
	c.http.CloseIdleConnections()
}

// markUp says that the list was read, so the server is worth asking more.
func (c *client) markUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.epoch.up:
	default:
		close(c.epoch.up)
	}
}

// ready waits until the server is worth asking, or ctx ends.
func (c *client) ready(ctx context.Context) {
	for ctx.Err() == nil {
		e := c.now()
		select {
		case <-e.up:
			return
		case <-e.ctx.Done():
		case <-ctx.Done():
		}
	}
}

// get asks q and decodes the answer, a JSON list, into out. Errors carry
// neither the address nor a secret.
func get[T any](ctx context.Context, c *client, q query, out *[]T) (meta, error) {
	e := c.now()
	timeout := c.prompt
	if q.index > 0 {
		timeout = c.wait + c.wait/16 + c.hold
	}
	ask, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	defer context.AfterFunc(e.ctx, cancel)()

	m, err := c.exchange(ask, q, out)
	if err == nil && *out == nil {
		err = statusError{http.StatusOK, "without a list"}
	}
	if err == nil {
		return m, nil
	}
	if ask.Err() == nil && answered(err) || ctx.Err() != nil {
		return m, err
	}
	if e.ctx.Err() != nil {
		return m, droppedError{context.Cause(e.ctx)}
	}
	err = outgoing.Describe(err)
	if errors.Is(ask.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("no answer within %s", timeout)
	}
	// One that waited for a change may have failed for a partition that is over.
	if q.ofOne && q.index == 0 && !q.leader && c.alive(ctx) {
		return m, aloneError{err}
	}
	c.drop(e, err)
	return m, err
}

// alive tells whether the server answers a question that each answers at once,
// whatever else it knows.
func (c *client) alive(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	resp, err := c.http.Do(c.request(ctx, query{path: []string{"status", "leader"}}))
	if err != nil {
		return false
	}
	resp.Body.Close()
	return true
}

func (c *client) exchange(ctx context.Context, q query, out any) (meta, error) {
	resp, err := c.http.Do(c.request(ctx, q))
	if err != nil {
		return meta{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return meta{}, newStatusError(resp)
	}
	dec := json.NewDecoder(io.LimitReader(resp.Body, maxBody))
	if err := dec.Decode(out); err != nil {
		return meta{}, notListError{err}
	}
	io.Copy(io.Discard, io.LimitReader(resp.Body, 4096)) // so that the connection is kept
	// Every answer from state has one; an empty list for want of
	// permissions has none.
	index, err := strconv.ParseUint(resp.Header.Get("X-Nomad-Index"), 10, 64)
	if err != nil || index == 0 {
		return meta{}, statusError{resp.StatusCode, "without an index; does the token have read-job in any namespace?"}
	}
	return meta{index: index, leaderless: resp.Header.Get("X-Nomad-KnownLeader") == "false"}, nil
}

func (c *client) request(ctx context.Context, q query) *http.Request {
	u := c.base.JoinPath("v1")
	for _, name := range q.path {
		u = u.JoinPath(segment(name))
	}
	params := url.Values{}
	if q.namespace != "" {
		params.Set("namespace", q.namespace)
	}
	if q.index > 0 {
		params.Set("index", strconv.FormatUint(q.index, 10))
		params.Set("wait", c.wait.String())
	}
	if c.stale && !q.leader {
		params.Set("stale", "true")
	}
	u.RawQuery = params.Encode()
	req := (&http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: http.Header{"User-Agent": {"dill"}}}).WithContext(ctx)
	if c.token != "" {
		req.Header.Set("X-Nomad-Token", c.token)
	}
	return req
}

// notListError is an answer that is something else, or part of one.
type notListError struct{ error }

func (e notListError) Error() string { return "answer is no list: " + e.error.Error() }

func (e notListError) Unwrap() error { return e.error }

// aloneError is a query that was not answered while others were.
type aloneError struct{ error }

func (e aloneError) Unwrap() error { return e.error }

// answered tells whether err is an answer that was no good, or one that only this
// query did not get, as opposed to a connection that was none. It is about what
// was asked for, not about the server.
func answered(err error) bool {
	_, status := errors.AsType[statusError](err)
	_, content := errors.AsType[notListError](err)
	_, alone := errors.AsType[aloneError](err)
	return status || content || alone
}

// segment escapes a name as one segment of a path.
func segment(name string) string {
	if name == "." || name == ".." { // steps in a tree, unescaped
		return strings.ReplaceAll(name, ".", "%2E")
	}
	return url.PathEscape(name)
}

// statusError is an answer that came, but not what was asked for. It says
// nothing about the connection.
type statusError struct {
	code int
	text string
}

func (e statusError) Error() string { return fmt.Sprintf("answered %d %s", e.code, e.text) }

func newStatusError(resp *http.Response) statusError {
	e := statusError{code: resp.StatusCode, text: http.StatusText(resp.StatusCode)}
	if resp.StatusCode == http.StatusForbidden {
		e.text += `; the token needs namespace "<name>" { capabilities = ["read-job"] }`
		return e
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 1024)) // what is there will do
	said := outgoing.Printable(string(body))
	if said != "" {
		e.text += ": " + said
	}
	return e
}
