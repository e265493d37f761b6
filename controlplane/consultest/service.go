package consultest

import (
	"fmt"
	"time"

	"github.com/hashicorp/consul/api"
)

// Service is what Register announces.
type Service struct {
	ID      string // "" = Name
	Name    string
	Address string // "" = the node's
	Port    int
	Tags    []string
	Weights *api.AgentWeights // nil = Consul's default of 1 and 1
	Checks  api.AgentServiceChecks
}

// TTL is a check that SetTTL decides. status is its status at first:
// "passing", "warning" or "critical". Its ID is that of the service with "ttl:"
// before it, so a service has one at most.
func TTL(status string) *api.AgentServiceCheck {
	return &api.AgentServiceCheck{Name: "ttl", TTL: "1h", Status: status}
}

// HTTP is a check that asks url every interval. It is critical until the first
// answer.
func HTTP(url string, interval time.Duration) *api.AgentServiceCheck {
	return &api.AgentServiceCheck{Name: "http", HTTP: url, Interval: interval.String(), Timeout: "2s"}
}

// Register announces s, or changes it if there is one with its ID. It returns
// when the catalog has it.
func (a *Agent) Register(s Service) error {
	if s.ID == "" {
		s.ID = s.Name
	}
	checks := make(api.AgentServiceChecks, len(s.Checks))
	for i, c := range s.Checks {
		own := *c
		if own.CheckID == "" && own.TTL != "" {
			own.CheckID = ttlID(s.ID)
		}
		checks[i] = &own
	}
	err := a.client.Agent().ServiceRegister(&api.AgentServiceRegistration{
		ID: s.ID, Name: s.Name, Address: s.Address, Port: s.Port, Tags: s.Tags, Weights: s.Weights, Checks: checks,
	})
	if err != nil {
		return fmt.Errorf("register %s: %w", s.ID, err)
	}
	return nil
}

// Deregister takes back the service with this ID.
func (a *Agent) Deregister(id string) error {
	if err := a.client.Agent().ServiceDeregister(id); err != nil {
		return fmt.Errorf("deregister %s: %w", id, err)
	}
	return nil
}

// SetTTL sets the status of the TTL check of the service with this ID.
func (a *Agent) SetTTL(id, status string) error {
	if err := a.client.Agent().UpdateTTL(ttlID(id), "set by consultest", status); err != nil {
		return fmt.Errorf("set check of %s: %w", id, err)
	}
	return nil
}

func ttlID(service string) string { return "ttl:" + service }
