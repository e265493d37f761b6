package dataplane

import (
	"fmt"
	"log/slog"

	"dill/dataplane/route"
)

// Of more than newsLines ports that open or close at once, only newsExamples
// are named: two thousand lines help nobody.
const (
	newsLines    = 20
	newsExamples = 5
)

// portNews is what a reconciliation opened and closed. It is told when it has
// happened: what a table asks for is no news of a port.
type portNews struct {
	opened, closed []*route.Listener
}

// log tells the news.
func (n *portNews) log(log *slog.Logger) {
	if len(n.opened)+len(n.closed) > newsLines {
		sumUp(log, "ports closed", n.closed)
		sumUp(log, "ports opened", n.opened)
		return
	}
	for _, l := range n.closed {
		log.Info("port closed", attrListener, l.Addr, attrOwner, l.Owner)
	}
	for _, l := range n.opened {
		log.Info("port opened", attrListener, l.Addr, attrOwner, l.Owner, attrBackends, len(l.Backends))
	}
}

func sumUp(log *slog.Logger, phrase string, listeners []*route.Listener) {
	if len(listeners) == 0 {
		return
	}
	var some []string
	for _, l := range listeners[:min(len(listeners), newsExamples)] {
		some = append(some, l.Addr.String())
	}
	if n := len(listeners) - newsExamples; n > 0 {
		some = append(some, fmt.Sprintf("and %d more", n))
	}
	log.Info(phrase, attrListeners, some)
}
