package main

import (
	"time"

	"dill/controlplane/config"
)

// reading is a configuration read again, with the sources it asks for.
type reading struct {
	config  *config.Config
	sources map[string]wanted
	err     error
}

// slowReading is the age at which a reading is worth a log line.
const slowReading = 5 * time.Second

// reload begins to read the configuration. That opens files, any of which may
// lie on a file system that hangs, and so is done on a goroutine of its own,
// which hands the outcome to live. A reload that is asked for meanwhile follows:
// what is read now may be older than what it is about.
func (p *process) reload() {
	if p.reading {
		p.again = true
		return
	}
	p.reading, p.again = true, false
	path := p.config.Path()
	go func() {
		slow := time.AfterFunc(slowReading, func() {
			p.logging.log.Warn("configuration is still being read, the old one stays until then", keyConfig, path)
		})
		defer slow.Stop()
		p.readings <- p.read(path)
	}()
}

// readSettings is process.read: it reads the configuration at path and what it
// names, and changes nothing.
func (p *process) readSettings(path string) reading {
	cfg, err := config.LoadWith(path, p.environ)
	if err != nil {
		return reading{err: err}
	}
	next, err := newSources(cfg, p.openFiles, p.logging.log)
	return reading{cfg, next, err}
}

// take ends a reload with what was read.
func (p *process) take(r reading) {
	p.reading = false
	if r.err != nil {
		p.logging.log.Error("configuration not accepted, the old one stays", keyErr, r.err)
	} else {
		p.apply(r.config, r.sources)
	}
	if p.again {
		p.reload()
	}
}

// apply replaces the configuration, completely.
func (p *process) apply(cfg *config.Config, next map[string]wanted) {
	log := p.logging.log
	p.logging.level.Set(cfg.Log.Level)
	for _, c := range config.Changes(p.config, cfg) {
		log.Info("setting changed", keySetting, c.Key, keyOld, c.Old, keyNew, c.New)
	}
	// Held against what runs, not against the last reload: what is pending is
	// named until it is done or taken back.
	if pending := config.NeedsRestart(config.Changes(p.started, cfg)); len(pending) > 0 {
		log.Warn("settings take effect at the next start", keySettings, pending)
	}
	p.config = cfg
	p.engine.Reconfigure(planeConfig(cfg, p.openFiles))
	p.runner.stop(next)
	p.publisher.Configure(p.settings(cfg, next))
	p.runner.run(next)
	log.Info("configuration read again", keyConfig, cfg.Path(), keySources, cfg.Sources())
}
