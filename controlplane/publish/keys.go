package publish

// Attribute keys of this package's log lines.
const (
	keySource     = "source"
	keyErr        = "err"
	keyService    = "service"
	keyServices   = "services"
	keyInstances  = "instances"
	keyListener   = "listener"
	keyListeners  = "listeners"
	keyOwner      = "owner"
	keyBackend    = "backend"
	keyOpen       = "open"
	keyNew        = "new"
	keyGone       = "gone"
	keyAdded      = "added"
	keyRemoved    = "removed"
	keyChanged    = "changed"
	keyRefused    = "refused"
	keyGeneration = "generation"
	keyInstance   = "instance"
	keyClaim      = "claim"
	keyReason     = "reason"
	keyFor        = "for"
	keySince      = "since"
	keySynced     = "synced"
	keySuspect    = "suspect"
)
