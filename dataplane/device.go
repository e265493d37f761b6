package dataplane

import (
	"slices"
	"sync/atomic"
	"time"

	"dill/dataplane/internal/sys"
)

// devicesEvery is the least time between two readings of hostDevices.
const devicesEvery = time.Second

// hostDevices knows the network devices behind which there is only this host.
// Loops look them up; the watchdog reads them anew when a loop missed one:
// containers come and go.
type hostDevices struct {
	known  atomic.Pointer[[]int32]
	missed atomic.Bool
	at     time.Time // of the last reading; the watchdog's
}

// has reports whether the device is known to be one.
func (d *hostDevices) has(index int32) bool {
	if known := d.known.Load(); known != nil {
		if _, found := slices.BinarySearch(*known, index); found {
			return true
		}
	}
	if !d.missed.Load() {
		d.missed.Store(true)
	}
	return false
}

// refresh reads the devices again if that is due.
func (d *hostDevices) refresh() {
	if d.missed.Load() && time.Since(d.at) >= devicesEvery {
		d.read()
	}
}

// read reads the devices. What cannot be read stays as it was: a peer that is not
// known to be near has the kernel's tuning.
func (d *hostDevices) read() {
	d.missed.Store(false)
	d.at = time.Now()
	if found, err := sys.HostDevices(); err == nil {
		d.known.Store(&found)
	}
}
