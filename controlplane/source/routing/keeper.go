package routing

import (
	"crypto/sha256"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"dill/controlplane/source"
)

// remindEvery is how often a document that stays unusable is mentioned.
const remindEvery = 10 * time.Minute

// Keeper is the memory of a source that reads one document: it holds the last
// good content whatever comes after it, and tells the sink and the log what is
// news, once. One goroutine uses it.
type Keeper struct {
	subject string // "routing file /etc/dill/routes.toml"
	log     *slog.Logger

	memory   Memory
	content  [sha256.Size]byte // of the last good document
	snapshot source.Snapshot   // as sent, or to be sent first
	current  time.Time         // when the document last held what snapshot says
	reminded time.Time
}

// NewKeeper returns a Keeper for the source of that name. subject begins every
// error, so it names the document, without secrets.
func NewKeeper(name, subject string, log *slog.Logger) *Keeper {
	return &Keeper{subject: subject, log: log, snapshot: source.Snapshot{Source: name}}
}

// Synced tells whether there ever was a good document.
func (k *Keeper) Synced() bool { return k.snapshot.Synced }

// Take reads data as the newest content. If it is no usable document it returns
// why, and nothing changes: whether that is a failure (Fail) the source knows.
func (k *Keeper) Take(f Format, data []byte, sink source.Sink) error {
	sum := sha256.Sum256(data)
	if k.snapshot.Synced && sum == k.content {
		k.good(k.snapshot.Services, sink)
		return nil
	}
	doc, err := k.memory.Decode(f, data)
	if err != nil {
		return err
	}
	k.content = sum
	logProblems(k.log, doc.Problems)
	k.good(doc.Services, sink)
	return nil
}

// Confirm records that the content is still the one taken last.
func (k *Keeper) Confirm(sink source.Sink) {
	k.good(k.snapshot.Services, sink)
}

func (k *Keeper) good(services []source.Service, sink source.Sink) {
	k.current = time.Now()
	changed := !k.snapshot.Synced || !slices.EqualFunc(services, k.snapshot.Services, source.Service.Equal)
	recovered := k.snapshot.Err != nil
	if !changed && !recovered {
		return
	}
	k.snapshot = source.Snapshot{Source: k.snapshot.Source, Services: services, Synced: true}
	k.log.Info("routing document read", "services", len(services), "changed", changed)
	sink(k.snapshot)
}

// Again records that a look found things as they were after the newest Take,
// Confirm or Fail.
func (k *Keeper) Again() {
	switch {
	case k.snapshot.Err == nil:
		k.current = time.Now()
	case time.Since(k.reminded) >= remindEvery:
		k.warn()
	}
}

// Fail records that the document cannot be had or used, and why. The services
// stay. An err that reads like the one before is not news.
func (k *Keeper) Fail(err error, sink source.Sink) {
	err = fmt.Errorf("%s: %w", k.subject, err)
	if k.snapshot.Err != nil && k.snapshot.Err.Error() == err.Error() {
		k.Again()
		return
	}
	if k.snapshot.Err == nil {
		k.snapshot.StaleSince = k.current
	}
	k.snapshot.Err = err
	k.warn()
	sink(k.snapshot)
}

func (k *Keeper) warn() {
	k.reminded = time.Now()
	if k.snapshot.Synced {
		k.log.Warn("routing document unusable, keeping the last good one", "err", k.snapshot.Err, "since", k.snapshot.StaleSince)
	} else {
		k.log.Warn("routing document unusable, waiting for a good one", "err", k.snapshot.Err)
	}
}
