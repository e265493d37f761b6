package consul

import (
	"context"
	"errors"
	"fmt"
)

// errFiltered is why an answer does not count that ACLs took something out of.
var errFiltered = fmt.Errorf("consul's answer is filtered by ACLs: the token lacks %s or %s for some of it", serviceRead, nodeRead)

// diagnose finds out why a catalog without any service for dill came from a
// Consul with ACLs: nil means that there really is none.
func (c *client) diagnose(ctx context.Context) error {
	all, _, err := c.services(ctx, query{})
	if err != nil {
		return err
	}
	// A server registers itself, so a token with all it needs sees something.
	if len(all) > 0 {
		return nil
	}
	nodes, err := c.nodes(ctx)
	if err != nil {
		return err
	}
	text, _ := c.token.get()
	whose := "the token"
	if text == "" {
		whose = "no token is set, and Consul's anonymous one"
	}
	if len(nodes) == 0 {
		return fmt.Errorf("nothing is visible: %s lacks %s, and perhaps %s", whose, nodeRead, serviceRead)
	}
	return fmt.Errorf("no service is visible: %s lacks %s", whose, serviceRead)
}

// errHidden is the failure of a service that ACLs hide partly.
var errHidden = errors.New("instances are hidden: the token lacks " + nodeRead + " for their nodes, or " + serviceRead)
