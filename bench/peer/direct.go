package peer

import "context"

// Direct is no proxy: what the load generator and the sink can do.
type Direct struct{}

func (Direct) Name() string       { return "direct" }
func (Direct) Version() string    { return "no proxy" }
func (Direct) Config(Site) string { return "" }

func (Direct) Start(_ context.Context, at Site) (*Running, error) {
	return &Running{Targets: at.Backends}, nil
}
