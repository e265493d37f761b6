package config

import (
	"fmt"
	"strconv"
	"strings"

	"dill/controlplane/regular"
	"dill/controlplane/source/routing"
)

// consulVariable is a variable that Consul's own tools read.
type consulVariable struct {
	name, key string
	invert    bool // it says the opposite of the key
}

var consulVariables = []consulVariable{
	{name: "CONSUL_HTTP_ADDR", key: "consul.address"},
	{name: "CONSUL_HTTP_TOKEN", key: "consul.token"},
	{name: "CONSUL_HTTP_TOKEN_FILE", key: "consul.token_file"},
	{name: "CONSUL_NAMESPACE", key: "consul.namespace"},
	{name: "CONSUL_PARTITION", key: "consul.partition"},
	{name: "CONSUL_CACERT", key: "consul.tls.ca"},
	{name: "CONSUL_CLIENT_CERT", key: "consul.tls.cert"},
	{name: "CONSUL_CLIENT_KEY", key: "consul.tls.key"},
	{name: "CONSUL_TLS_SERVER_NAME", key: "consul.tls.server_name"},
	{name: "CONSUL_HTTP_SSL_VERIFY", key: "consul.tls.insecure", invert: true},
}

// consulSSL turns an address without a scheme of its own into https.
const consulSSL = "CONSUL_HTTP_SSL"

// consulVariables fills what neither file nor environment set of Consul from
// the variables of Consul's own tools. They do not switch the source on, and
// nobody minds what they say where it is off: they are there for other programs.
func (l *loader) consulVariables(environ []string) error {
	if !l.config.Consul.Enabled {
		return nil
	}
	vars := map[string]string{}
	for _, line := range environ {
		if name, v, _ := strings.Cut(line, "="); v != "" {
			vars[name] = v
		}
	}
	for _, cv := range consulVariables {
		v, set := vars[cv.name]
		if !set || l.found(cv.key).place != "" {
			continue
		}
		if cv.invert {
			b, err := strconv.ParseBool(v)
			if err != nil {
				return &Error{Place: cv.name, Want: "want true or false"}
			}
			v = strconv.FormatBool(!b)
		}
		l.config.origins[cv.key] = cv.name
		l.viper.SetDefault(cv.key, v)
		if err := l.fill(keyByName[cv.key]); err != nil {
			return err
		}
	}
	l.oneToken()
	return l.consulSSL(vars)
}

// consulSSL applies CONSUL_HTTP_SSL to an address that dill's own settings did
// not give. As in Consul's tools it wins over "http://" in CONSUL_HTTP_ADDR.
func (l *loader) consulSSL(vars map[string]string) error {
	v, set := vars[consulSSL]
	if !set || l.rank("consul.address") > rankStandard {
		return nil
	}
	on, err := strconv.ParseBool(v)
	if err != nil {
		return &Error{Place: consulSSL, Want: "want true or false"}
	}
	address := &l.config.Consul.Address
	if rest, plain := strings.CutPrefix(*address, "http://"); on && plain {
		*address = "https://" + rest
		l.config.origins["consul.address"] = consulSSL
	}
	return nil
}

// The layers, the stronger the higher.
const (
	rankStandard = iota // default, or a variable of Consul's tools
	rankFile
	rankEnvironment
)

func (l *loader) rank(name string) int {
	if _, ok := l.env.settings[name]; ok {
		return rankEnvironment
	}
	if _, ok := l.file.settings[name]; ok {
		return rankFile
	}
	return rankStandard
}

// oneToken drops a token or token file that a stronger layer overrides by the
// other of the two. Within Consul's own variables the file wins, as it does for
// Consul's tools; within one layer of dill's, check refuses both.
func (l *loader) oneToken() {
	c := &l.config.Consul
	if c.Token == "" || c.TokenFile == "" {
		return
	}
	token, file := l.rank("consul.token"), l.rank("consul.token_file")
	switch {
	case token > file:
		c.TokenFile = ""
		delete(l.config.origins, "consul.token_file")
	case file > token || file == rankStandard:
		c.Token = ""
		delete(l.config.origins, "consul.token")
	}
}

// check refuses settings that are fine alone and not together.
func (l *loader) check() error {
	c := l.config
	if c.Listeners.PortMin > c.Listeners.PortMax {
		if s := l.found("listeners.port_min"); s.place != "" {
			return &Error{s.place, s.key, strconv.Itoa(c.Listeners.PortMin),
				fmt.Sprintf("want at most listeners.port_max, which is %d", c.Listeners.PortMax)}
		}
		s := l.found("listeners.port_max")
		return &Error{s.place, s.key, strconv.Itoa(c.Listeners.PortMax),
			fmt.Sprintf("want at least listeners.port_min, which is %d", c.Listeners.PortMin)}
	}
	if _, ok := routing.FormatOf(c.File.Path); !ok && c.File.Path != "" {
		s := l.found("file.path")
		return &Error{s.place, s.key, show(s.value), "want a name that ends in " + routing.Extensions}
	}
	if c.Consul.Token != "" && c.Consul.TokenFile != "" {
		s := l.found("consul.token_file")
		return &Error{s.place, s.key, show(s.value), "want either this or consul.token"}
	}
	if c.Consul.Enabled {
		if err := l.checkTLS("consul.tls.", c.Consul.TLS); err != nil {
			return err
		}
	}
	if c.Nomad.Enabled {
		return l.checkTLS("nomad.tls.", c.Nomad.TLS)
	}
	return nil
}

// checkTLS refuses half a key pair, and files that cannot be read. prefix is
// that of the keys.
func (l *loader) checkTLS(prefix string, t TLS) error {
	if (t.Cert == "") != (t.Key == "") {
		name, other := prefix+"cert", prefix+"key"
		if t.Cert == "" {
			name, other = other, name
		}
		s := l.found(name)
		return &Error{s.place, s.key, show(s.value), "want " + other + ", too"}
	}
	for _, f := range []struct{ name, path string }{{"ca", t.CA}, {"cert", t.Cert}, {"key", t.Key}} {
		if f.path == "" {
			continue
		}
		if _, err := regular.Read(f.path, regular.PEMLimit); err != nil {
			s := l.found(prefix + f.name)
			return &Error{s.place, s.key, show(f.path), "want a PEM file that can be read: " + err.Error()}
		}
	}
	return nil
}
