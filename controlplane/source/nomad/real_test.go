package nomad

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"dill/controlplane/source"
)

const listenerTag = "dill.listener=local:15000"

// ports returns the sorted ports of a service's instances in a snapshot.
func ports(s source.Snapshot, service string) []int {
	var p []int
	for _, svc := range s.Services {
		if svc.Name == service {
			for _, in := range svc.Instances {
				p = append(p, in.Port)
			}
		}
	}
	slices.Sort(p)
	return p
}

// registered returns what Nomad itself says the ports are.
func (a *agent) registered(service string) []int {
	var list []registration
	if err := json.Unmarshal(a.get("/v1/service/"+service), &list); err != nil {
		a.t.Fatal(err)
	}
	var p []int
	for _, r := range list {
		p = append(p, r.Port)
	}
	slices.Sort(p)
	return p
}

func TestRealJobs(t *testing.T) {
	t.Parallel()
	a := startAgent(t, true, "", nil)
	one := follow(t, Options{Address: a.addr}, nil)
	var confirmer *Source
	all := follow(t, Options{Address: a.addr, Namespace: "*", Stale: true}, func(s *Source) { confirmer = s })
	one.UntilShown("")

	a.run("web", "default", 2, "dill", listenerTag, "other")
	a.run("plain", "default", 1, "other")
	s := one.UntilShown("web:2")
	if got, want := ports(s, "web"), a.registered("web"); !slices.Equal(got, want) {
		t.Errorf("ports %v, want %v", got, want)
	}
	for _, in := range s.Services[0].Instances {
		if in.Host != "127.0.0.1" || !slices.Equal(in.Tags, []string{"dill", listenerTag}) || in.CreateIndex == 0 || in.ID == "" {
			t.Errorf("instance %+v", in)
		}
	}
	all.UntilShown("default/web:2")

	t.Run("tags change", func(t *testing.T) {
		a.run("web", "default", 2, "dill", "dill.listener=local:15001")
		one.Until("with the new listener", func(s source.Snapshot) bool {
			return len(s.Services) == 1 && slices.Equal(s.Services[0].Instances[0].Tags, []string{"dill", "dill.listener=local:15001"})
		})
	})
	t.Run("instances come and go", func(t *testing.T) {
		a.run("web", "default", 3, "dill", listenerTag)
		one.UntilShown("web:3")
		a.run("web", "default", 1, "dill", listenerTag)
		one.UntilShown("web:1")
		all.UntilShown("default/web:1")
	})
	t.Run("namespaces", func(t *testing.T) {
		a.must(http.MethodPut, "/v1/namespace/other", map[string]any{"Name": "other"})
		other := follow(t, Options{Address: a.addr, Namespace: "other"}, nil)
		other.UntilShown("")
		a.run("web", "other", 1, "dill", listenerTag)
		all.UntilShown("default/web:1 other/web:1")
		other.UntilShown("web:1")
		one.UntilShown("web:1") // the default one's
	})
	t.Run("confirm", func(t *testing.T) {
		s, err := confirmer.Confirm(t.Context())
		if err != nil || show(s) != "default/web:1 other/web:1" {
			t.Errorf("Confirm: %s, %v", show(s), err)
		}
	})
	t.Run("stopped", func(t *testing.T) {
		a.purge("web", "default")
		one.UntilShown("")
		all.UntilShown("other/web:1")
	})
	for _, s := range append(one.All(), all.All()...) {
		if s.Err != nil || s.Suspect {
			t.Errorf("a snapshot in quiet times: %s, %v", show(s), s.Err)
		}
	}
}

// A -dev agent forgets everything: what comes back is another, emptier Nomad.
func TestRealNomadThatForgets(t *testing.T) {
	t.Parallel()
	a := startAgent(t, true, "", nil)
	for i := range 3 {
		a.run(fmt.Sprintf("s%d", i), "default", 1, "dill", listenerTag)
	}
	f := follow(t, Options{Address: a.addr}, nil)
	f.UntilShown("s0:1 s1:1 s2:1")
	before := len(f.All())

	a.stop(syscall.SIGKILL)
	f.UntilShown("!s0:1 s1:1 s2:1")
	a.start()
	f.UntilShown("~")
	for _, s := range f.All()[before:] {
		if s.Synced && s.Err == nil && !s.Suspect && len(s.Services) < 3 {
			t.Errorf("a removal is neither suspect nor an error: %s", show(s))
		}
	}
}

// A server with a data directory comes back as it was, and nothing may be
// missing in between.
func TestRealServerThatRestarts(t *testing.T) {
	t.Parallel()
	a := startAgent(t, false, `
		server {
			enabled          = true
			bootstrap_expect = 1
		}
	`, nil)
	startAgent(t, false, fmt.Sprintf(`
		client {
			enabled = true
			servers = [%q]
		}
	`, a.rpc), nil)
	a.run("web", "default", 1, "dill", listenerTag)
	f := follow(t, Options{Address: a.addr}, nil)
	f.UntilShown("web:1")
	before := len(f.All())

	a.stop(syscall.SIGKILL)
	f.UntilShown("!web:1")
	a.start()
	f.UntilShown("web:1")
	for _, s := range f.All()[before:] {
		if len(ports(s, "web")) != 1 {
			t.Errorf("the service is missing from %q", show(s))
		}
	}
}

// authority is a certificate authority for one test.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	ca := &authority{t: t, dir: t.TempDir()}
	ca.cert, ca.key = ca.issue("ca", &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return ca
}

// path returns the file of a certificate (".pem") or key (".key").
func (ca *authority) path(file string) string { return filepath.Join(ca.dir, file) }

// issue signs template and writes <name>.pem and <name>.key.
func (ca *authority) issue(name string, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	ca.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		ca.t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.Subject = pkix.Name{CommonName: name}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := ca.cert, ca.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		ca.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		ca.t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		ca.t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		name + ".pem": {Type: "CERTIFICATE", Bytes: der},
		name + ".key": {Type: "EC PRIVATE KEY", Bytes: secret},
	} {
		if err := os.WriteFile(ca.path(file), pem.EncodeToMemory(block), 0o600); err != nil {
			ca.t.Fatal(err)
		}
	}
	return cert, key
}

func TestRealACLsAndTLS(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	both := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	ca.issue("server", &x509.Certificate{
		ExtKeyUsage: both, DNSNames: []string{"server.global.nomad", "client.global.nomad", "localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	})
	ca.issue("dill", &x509.Certificate{ExtKeyUsage: both})
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	pair, err := tls.LoadX509KeyPair(ca.path("dill.pem"), ca.path("dill.key"))
	if err != nil {
		t.Fatal(err)
	}
	a := startAgent(t, true, fmt.Sprintf(`
		acl {
			enabled = true
		}
		tls {
			http                = true
			rpc                 = true
			ca_file             = %q
			cert_file           = %q
			key_file            = %q
			verify_https_client = true
		}
	`, ca.path("ca.pem"), ca.path("server.pem"), ca.path("server.key")), &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}})
	var boot, reader struct{ SecretID string }
	decode := func(data []byte, v any) {
		t.Helper()
		if err := json.Unmarshal(data, v); err != nil {
			t.Fatal(err)
		}
	}
	decode(a.must(http.MethodPut, "/v1/acl/bootstrap", nil), &boot)
	a.token = boot.SecretID
	// What the README tells users to give dill, and no more.
	a.must(http.MethodPut, "/v1/acl/policy/dill", map[string]any{"Name": "dill", "Rules": `namespace "default" { capabilities = ["read-job"] }`})
	decode(a.must(http.MethodPut, "/v1/acl/token", map[string]any{"Name": "dill", "Type": "client", "Policies": []string{"dill"}}), &reader)
	a.run("web", "default", 1, "dill", listenerTag)

	secure := Options{Address: a.addr, CA: ca.path("ca.pem"), Cert: ca.path("dill.pem"), Key: ca.path("dill.key"), Token: reader.SecretID}
	with := func(change func(*Options)) Options {
		o := secure
		change(&o)
		return o
	}
	for name, tt := range map[string]struct {
		options Options
		want    string // shown, or in the error
	}{
		"policy of the README": {secure, "web:1"},
		"insecure":             {with(func(o *Options) { o.CA, o.Insecure = "", true }), "web:1"},
		"all namespaces":       {with(func(o *Options) { o.Namespace = "*" }), "default/web:1"},
		"no token":             {with(func(o *Options) { o.Token = "" }), `read-job`},
		"wrong token":          {with(func(o *Options) { o.Token = "6a6f6e21-0000-0000-0000-000000000000" }), "answered 403 Forbidden"},
		"wrong namespace":      {with(func(o *Options) { o.Namespace = "other" }), `capabilities = ["read-job"]`},
		"no token, all":        {with(func(o *Options) { o.Token, o.Namespace = "", "*" }), "does the token have read-job"},
		"no client cert":       {with(func(o *Options) { o.Cert, o.Key = "", "" }), "certificate"},
		"unknown authority":    {with(func(o *Options) { o.CA = "" }), "x509"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := follow(t, tt.options, nil)
			s := f.Until(fmt.Sprintf("%q", tt.want), func(s source.Snapshot) bool {
				return show(s) == tt.want || s.Err != nil && strings.Contains(s.Err.Error(), tt.want)
			})
			if s.Err != nil && (show(s) != "!?" || tt.options.Token != "" && strings.Contains(s.Err.Error()+f.Log.String(), tt.options.Token)) {
				t.Errorf("snapshot %s, error %v", show(s), s.Err)
			}
		})
	}
}
