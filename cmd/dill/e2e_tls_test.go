package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"dill/controlplane/consultest"
)

// TLS to Consul, with and without a certificate of dill's own.
func TestTLSToConsul(t *testing.T) {
	t.Parallel()
	for title, kind := range map[string]consultest.TLS{"server": consultest.Server, "mutual": consultest.Mutual} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			agent := consultest.New(t, consultest.Options{TLS: kind, ACL: true})
			settings := fmt.Sprintf("consul.address = %q\nconsul.token = %q\nconsul.tls.ca = %q\n", agent.Addr(), agent.Token, agent.CA)
			if kind == consultest.Mutual {
				settings += fmt.Sprintf("consul.tls.cert = %q\nconsul.tls.key = %q\n", agent.Cert, agent.Key)
			}
			r := launch(t, settings)
			hello, port := saying(t, "hello"), freeAddr(t)
			register(t, agent, "web", "web", hello.Addr(), port)
			r.answers(port, "hello")
			must(t, agent.Deregister("web"))
			r.closed(port)
			if strings.Contains(r.log.String(), "level=WARN") {
				t.Error("something is warned of")
			}
		})
	}
}

// Certificates that do not fit are named, in the log and in Peek, while dill
// stays up; a reload with those that fit is enough.
func TestCertificatesThatDoNotFitAreNamed(t *testing.T) {
	t.Parallel()
	agent := consultest.New(t, consultest.Options{TLS: consultest.Mutual})
	hello, port := saying(t, "hello"), freeAddr(t)
	register(t, agent, "web", "web", hello.Addr(), port)
	address := fmt.Sprintf("consul.address = %q\n", agent.Addr())
	ca := fmt.Sprintf("consul.tls.ca = %q\n", agent.CA)
	pair := fmt.Sprintf("consul.tls.cert = %q\nconsul.tls.key = %q\n", agent.Cert, agent.Key)

	// One dill that is told better each time.
	r := launch(t, address)
	for _, tt := range []struct{ settings, says string }{
		{"", "certificate signed by unknown authority"},
		{fmt.Sprintf("consul.tls.ca = %q\n", certificates(t)) + pair, "certificate signed by unknown authority"},
		{ca + pair + "consul.tls.server_name = 'consul.example'\n", "certificate is valid for .*, not consul.example"},
		{ca, "certificate required"},
	} {
		r.configure(address + tt.settings)
		r.signal(syscall.SIGHUP)
		r.peekSays(`^nothing is served: .*\n\nstale\n├ consul: never current: .*` + tt.says)
		r.says(`level=WARN msg="consul is not current".*` + tt.says)
	}
	if strings.Contains(r.log.String(), "http2: ") {
		t.Error("an error is not named")
	}
	r.closed(port)
	r.configure(address + ca + pair)
	r.signal(syscall.SIGHUP)
	r.answers(port, "hello")
}

// A renewed certificate under the old name is taken at the next reload, and
// until then nothing is lost.
func TestRenewedCertificateIsTakenAtAReload(t *testing.T) {
	t.Parallel()
	agent := consultest.New(t, consultest.Options{TLS: consultest.Server})
	ca := filepath.Join(t.TempDir(), "ca.pem")
	copyFile := func(from string) {
		t.Helper()
		text, err := os.ReadFile(from)
		must(t, err)
		replace(t, ca, string(text))
	}
	copyFile(agent.CA)
	r := launch(t, fmt.Sprintf("consul.address = %q\nconsul.tls.ca = %q\n", agent.Addr(), ca))
	hello, port := saying(t, "hello"), freeAddr(t)
	register(t, agent, "web", "web", hello.Addr(), port)
	r.answers(port, "hello")
	serving := probe(t, port)

	copyFile(certificates(t))
	r.signal(syscall.SIGHUP)
	r.peekSays(`\nstale\n├ consul: last current .*certificate signed by unknown authority`)
	serving.hear(t, "hello", 10)
	copyFile(agent.CA)
	r.signal(syscall.SIGHUP)
	late := freeAddr(t)
	register(t, agent, "late", "late", hello.Addr(), late)
	r.answers(late, "hello")
	serving.only(t, "hello")
	r.unharmed()
}
