package dataplane

import "testing"

// TestReserve: what is left to the control plane.
func TestReserve(t *testing.T) {
	for files, want := range map[uint64]uint64{0: 0, 3: 0, 64: 16, 1000: 250, 1024: 256, 20000: 256, 1 << 30: 256} {
		if got := Reserve(files); got != want {
			t.Errorf("of %d files, %d are reserved, want %d", files, got, want)
		}
	}
}
