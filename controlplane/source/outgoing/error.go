package outgoing

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
)

// Describe returns what an exchange with a server failed of, without the URL,
// which may hold secrets, and without what differs from try to try – local
// ports, the time of day: so that the same failure reads the same, and can be
// recognised as no news.
func Describe(err error) error {
	if at, ok := errors.AsType[*url.Error](err); ok {
		err = at.Err
	}
	if at, ok := errors.AsType[*net.DNSError](err); ok {
		switch {
		case at.IsNotFound:
			return fmt.Errorf("look up %s: no such host", at.Name)
		case at.IsTimeout:
			return fmt.Errorf("look up %s: timed out", at.Name)
		}
		return fmt.Errorf("look up %s: no usable answer", at.Name)
	}
	if at, ok := errors.AsType[x509.CertificateInvalidError](err); ok && at.Reason == x509.Expired {
		return errors.New("the server's certificate has expired or is not yet valid")
	}
	if at, ok := errors.AsType[*net.OpError](err); ok {
		return fmt.Errorf("%s: %w", at.Op, at.Err)
	}
	if text := err.Error(); text != Printable(text) {
		return errors.New(Printable(text)) // it quotes what the server said
	}
	return err
}
