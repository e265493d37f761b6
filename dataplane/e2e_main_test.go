package dataplane_test

import (
	"testing"

	"dill/dataplane/dptest"
)

// TestMain checks every test of the package, internal ones too, for goroutines
// and descriptors left behind, and plays the other processes of some tests.
func TestMain(m *testing.M) {
	dptest.Main(m, map[string]func(*dptest.Parent){
		"engine": playEngine,
		"load":   playLoad,
		"alone":  playAlone,
		"far":    playFar,
	})
}
