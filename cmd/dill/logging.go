package main

import (
	"io"
	"log/slog"

	"dill/controlplane/config"
)

// Keys of the attributes that this package logs.
const (
	keyVersion   = "version"
	keyConfig    = "config"
	keySources   = "sources"
	keySource    = "source"
	keyLoops     = "loops"
	keyOpenFiles = "open_files"
	keyLimit     = "max_connections"
	keyPorts     = "ports"
	keyFix       = "fix"
	keyPeek      = "peek"
	keyPath      = "path"
	keyErr       = "err"
	keySignal    = "signal"
	keyTimeout   = "timeout"
	keySessions  = "sessions"
	keySetting   = "setting"
	keyOld       = "old"
	keyNew       = "new"
	keySettings  = "settings"
	keyHeldBack  = "held_back"
	keyDropped   = "dropped"
)

// Keys that the planes log and damper looks at.
const (
	keyListener   = "listener"
	keyListeners  = "listeners"
	keyOwner      = "owner"
	keyGeneration = "generation"
)

// logging is the logger of everything, and its level, which a reload may
// change.
type logging struct {
	log   *slog.Logger
	level *slog.LevelVar
	flush func() // tells what is held back, and waits until it is written; for the end
}

// newLogging logs to out, by way of a backlog. environ may take the colours from
// it.
func newLogging(out io.Writer, c config.Log, environ []string) logging {
	level := new(slog.LevelVar)
	level.Set(c.Level)
	options := &slog.HandlerOptions{Level: level}
	w := &backlog{to: out}
	var h slog.Handler = slog.NewTextHandler(w, options)
	switch {
	case c.Format == "json":
		h = slog.NewJSONHandler(w, options)
	case c.Format == "auto" && isTerminal(out):
		h = newConsole(w, level, wantsColour(environ))
	}
	d := newDamper(h)
	l := logging{slog.New(d), level, func() { d.flush(); w.flush() }}
	w.dropped = func(lines int) { l.log.Warn("log lines dropped, nobody read them", keyDropped, lines) }
	return l
}
