package main

import (
	"context"
	"net/http"
	"net/http/pprof"
	"time"

	"dill/controlplane/endpoint"
)

// serveProfiles serves Go's own profiles at /debug/pprof/ until ctx ends, on an
// address of their own, which it takes over.
func serveProfiles(ctx context.Context, at *endpoint.Listener) {
	defer at.Close()
	ln := at.Wait(ctx)
	if ln == nil {
		return
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	_ = server.Serve(ln) // its error is that of Close
}
