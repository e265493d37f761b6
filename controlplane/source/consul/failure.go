package consul

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"

	"github.com/hashicorp/consul/api"

	"dill/controlplane/source/outgoing"
)

// Rights that dill needs, as they are called and as they are granted.
const (
	serviceRead = `service:read (service_prefix "" { policy = "read" })`
	nodeRead    = `node:read (node_prefix "" { policy = "read" })`
)

// broken tells whether err means that the connection is no good, as opposed to
// an answer that is no good.
func broken(err error) bool {
	var (
		request *url.Error
		network *net.OpError
		number  syscall.Errno
	)
	return errors.As(err, &request) || errors.As(err, &network) || errors.As(err, &number) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errCrowded) || errors.Is(err, errHungUp)
}

// unreachable tells whether err means that there was no connection, or none that
// anything came over.
func unreachable(err error) bool {
	var network *net.OpError
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &network) && network.Op == "dial"
}

// refused tells whether err is Consul's answer to a token that it does not know,
// or that lacks a right.
func refused(err error) bool {
	var status api.StatusError
	return errors.As(err, &status) && status.Code == http.StatusForbidden
}

// crowded tells whether err is the agent's word that there are too many
// connections.
func crowded(err error) bool {
	var status api.StatusError
	return errors.Is(err, errCrowded) ||
		errors.As(err, &status) && status.Code == http.StatusTooManyRequests && strings.Contains(status.Body, crowdedText)
}

// plain rewrites err so that one failure always reads the same and nothing
// foreign gets into the log: no source ports, no request, no page of HTML.
func plain(err error) error {
	var (
		request *url.Error
		network *net.OpError
		status  api.StatusError
	)
	switch {
	case errors.Is(err, errCrowded):
		return errCrowded
	case errors.Is(err, errHungUp):
		return errHungUp
	case errors.Is(err, context.DeadlineExceeded):
		return errors.New("consul does not answer")
	case errors.As(err, &network):
		if network.Addr == nil {
			return fmt.Errorf("%s: %w", network.Op, network.Err)
		}
		return fmt.Errorf("%s %s: %w", network.Op, network.Addr, network.Err)
	case errors.As(err, &status):
		return statusError(status)
	case errors.As(err, &request):
		return request.Err
	}
	return err
}

func statusError(status api.StatusError) error {
	text := outgoing.Printable(status.Body)
	switch {
	case status.Code != http.StatusForbidden:
		return fmt.Errorf("consul answers %d: %s", status.Code, text)
	case strings.Contains(status.Body, "ACL not found"):
		return fmt.Errorf("consul does not know the token (403: %s)", text)
	default:
		return fmt.Errorf("consul refuses (403: %s): the token needs %s and %s", text, serviceRead, nodeRead)
	}
}
