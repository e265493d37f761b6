package route

import "time"

var epoch = time.Now()

// Now is the monotonic clock that ejections are counted on: nanoseconds since
// the process started. Pick and its kin take it as an argument, so that a loop
// reads it once a batch.
func Now() int64 { return int64(time.Since(epoch)) }
