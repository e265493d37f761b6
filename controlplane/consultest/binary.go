package consultest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// variable names the environment variable that holds the path of the binary.
const variable = "CONSUL"

// Binary returns the path of the consul binary: $CONSUL, bin/consul at the
// root of the repository that the working directory is in, or consul on PATH.
func Binary() (string, error) {
	if given := os.Getenv(variable); given != "" {
		path, err := exec.LookPath(given)
		if err != nil {
			return "", fmt.Errorf("$%s: %w", variable, err)
		}
		return filepath.Abs(path)
	}
	if root, ok := moduleRoot(); ok {
		if path, err := exec.LookPath(filepath.Join(root, "bin", "consul")); err == nil {
			return path, nil
		}
	}
	path, err := exec.LookPath("consul")
	if err != nil {
		return "", errors.New("no consul binary: `make consul` puts one at bin/consul; or set CONSUL=/path/to/consul")
	}
	return filepath.Abs(path)
}

// moduleRoot is the nearest directory at or above the working directory that
// has a go.mod.
func moduleRoot() (string, bool) {
	dir, err := os.Getwd()
	if err != nil {
		return "", false
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, true
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", false
		}
		dir = parent
	}
}
