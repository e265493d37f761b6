package consultest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// certificates are PEM files of an authority, made for one agent, and of what
// it signed.
type certificates struct {
	CA, Cert, Key         string // what a client needs
	serverCert, serverKey string
}

// makeCertificates writes certificates for localhost to dir.
func makeCertificates(dir string) (*certificates, error) {
	authority := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "consultest"},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	ca, caKey, err := sign(authority, nil, nil)
	if err != nil {
		return nil, err
	}
	c := &certificates{CA: filepath.Join(dir, "ca.pem")}
	if err := writePEM(c.CA, "CERTIFICATE", ca.Raw); err != nil {
		return nil, err
	}
	issue := func(name string, usage x509.ExtKeyUsage) (cert, key string, err error) {
		leaf, leafKey, err := sign(&x509.Certificate{
			Subject:     pkix.Name{CommonName: name},
			DNSNames:    []string{"localhost", "server.dc1.consul"},
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
			KeyUsage:    x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{usage},
		}, ca, caKey)
		if err != nil {
			return "", "", err
		}
		der, err := x509.MarshalECPrivateKey(leafKey)
		if err != nil {
			return "", "", err
		}
		cert, key = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+"-key.pem")
		if err := writePEM(cert, "CERTIFICATE", leaf.Raw); err != nil {
			return "", "", err
		}
		return cert, key, writePEM(key, "EC PRIVATE KEY", der)
	}
	if c.serverCert, c.serverKey, err = issue("server", x509.ExtKeyUsageServerAuth); err != nil {
		return nil, err
	}
	if c.Cert, c.Key, err = issue("client", x509.ExtKeyUsageClientAuth); err != nil {
		return nil, err
	}
	return c, nil
}

// sign completes template and signs it with the parent's key, or with its own
// when there is no parent.
func sign(template, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if parent == nil {
		parent, parentKey = template, key
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore = time.Now().Add(-time.Hour)
	template.NotAfter = time.Now().Add(24 * time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return cert, key, err
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

// config is what a client with these certificates uses; nil certificates are
// no TLS.
func (c *certificates) config() (*tls.Config, error) {
	if c == nil {
		return nil, nil
	}
	text, err := os.ReadFile(c.CA)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s: no certificate", c.CA)
	}
	own, err := tls.LoadX509KeyPair(c.Cert, c.Key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{own}}, nil
}
