package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"
)

// profiles serves Go's own profiles at /debug/pprof/, on an address of their
// own that services cannot claim.
type profiles struct {
	ln     net.Listener
	server *http.Server
}

func listenProfiles(addr string) (*profiles, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("debug.pprof: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return &profiles{ln, &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}}, nil
}

// serve answers until close.
func (p *profiles) serve() { _ = p.server.Serve(p.ln) } // its error is that of close

func (p *profiles) close() {
	_ = p.server.Close()
	_ = p.ln.Close() // in case serve was never called
}
