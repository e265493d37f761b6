package consul

// Attribute keys of this package's log lines.
const (
	keyErr      = "err"
	keyDropped  = "dropped"  // lines not written since the last one
	keyOutage   = "outage"   // how long it lasted
	keyServices = "services" // asking for a listener
	keyWatches  = "watches"  // held from now on
	keyWait     = "wait"     // that was configured
	keyMost     = "most"
	keyService  = "service"
	keySince    = "since" // when it was last current
	keyHost     = "host"  // of the address, without path or credentials
)
