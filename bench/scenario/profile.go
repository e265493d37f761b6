package scenario

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"dill/bench/peer"
)

// PprofVar names the setting that makes dill serve its profiles.
const PprofVar = "DILL_DEBUG_PPROF"

// EnableProfiles has dill serve profiles from now on, and the scenarios fetch
// them. The error says why this dill cannot.
func (r *Rig) EnableProfiles(ctx context.Context, dir string) error {
	at, cleanup, err := r.site(2, nil)
	if err != nil {
		return err
	}
	defer cleanup()
	addr := fmt.Sprintf("127.0.0.1:%d", at.Listen.Port()+1)
	with := r.Dill.With("", PprofVar+"="+addr)
	with.Announce = nil
	if err := os.WriteFile(filepath.Join(at.Dir, "routes.json"), peer.Routes(), 0o644); err != nil {
		return err
	}
	child, _, err := with.Launch(at, with.FileEnv(at))
	if err != nil {
		return err
	}
	defer child.Stop(5 * time.Second)
	ctx, cancel := context.WithTimeoutCause(ctx, 3*time.Second, errors.New("nobody answers at "+addr))
	defer cancel()
	err = child.Poll(ctx, 20*time.Millisecond, func() bool {
		return fetch(ctx, "http://"+addr+"/debug/pprof/cmdline", filepath.Join(r.Dir, "cmdline")) == nil
	})
	if err != nil {
		return fmt.Errorf("%s does not work with this dill: %w", PprofVar, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	r.profiles, r.pprof = dir, addr
	r.Dill.Env = append(r.Dill.Env, PprofVar+"="+addr)
	return nil
}

// profile collects a CPU profile over the measured window and the allocations
// after it, if that is wanted. Call what it returns when the load has ended.
func (r *Rig) profile(ctx context.Context, name string) (finish func() error) {
	if r.profiles == "" {
		return func() error { return nil }
	}
	base := filepath.Join(r.profiles, name)
	cpu := make(chan error, 1)
	go func() {
		if err := pause(ctx, r.Warmup); err != nil {
			cpu <- err
			return
		}
		seconds := max(1, int(r.Duration/time.Second))
		cpu <- fetch(ctx, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", r.pprof, seconds), base+".cpu.pprof")
	}()
	return func() error {
		return errors.Join(<-cpu, fetch(ctx, "http://"+r.pprof+"/debug/pprof/allocs", base+".allocs.pprof"))
	}
}

// fetch stores what url answers in a file.
func fetch(ctx context.Context, url, path string) error {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	q.Close = true
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, resp.Body)
	return errors.Join(err, f.Close())
}
