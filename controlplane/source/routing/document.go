package routing

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"dill/controlplane/mask"
	"dill/controlplane/source"
)

// MaxSize is the largest document that is read, in bytes. The longest useful
// one – an entry of some 200 bytes for each of 65,535 ports – is smaller.
const MaxSize = 16 << 20

// maxEntries bounds what a document of many tiny entries can cost. There are no
// more ports; entries beyond it are not read.
const maxEntries = 1 << 16

// Document is the content of a routing document.
type Document struct {
	// Services is sorted by name, their instances by ID. Instance IDs are
	// "<name>/<backend>". CreateIndex is the place of the entry, counted
	// from 1: of two services that claim one port, the one written first has
	// it, and of two entries for one service, the later one's options hold.
	Services []source.Service

	// Problems are the mistakes seen, in the document's order. Entries
	// without one are not affected by them.
	Problems []Problem
}

// Decode reads a document. An error means that nothing in it can be used; it
// says the line where that is known, not the file.
func Decode(f Format, data []byte) (Document, error) { return new(Memory).Decode(f, data) }

// Memory decodes one version of a document after the other. Entries that are as
// they were, which in a large document is nearly all, cost only a look where the
// notation tells where an entry ends: in JSON. The result is that of the
// function Decode. Its services share memory with those of earlier results, so
// nobody may modify them. The zero Memory is ready.
type Memory struct {
	entries []remembered // of the last document that could be used, by index
}

// remembered is an entry without a problem, and what was made of it.
type remembered struct {
	raw       string // "" = nothing is remembered
	service   string
	instances []source.Instance
}

// Decode is the function Decode.
func (m *Memory) Decode(f Format, data []byte) (Document, error) {
	if len(data) > MaxSize {
		return Document{}, fmt.Errorf("%d bytes; want at most %d", len(data), MaxSize)
	}
	t, err := parse(f, data)
	if err != nil {
		return Document{}, err
	}
	d := decoder{services: make(map[string]*source.Service, len(m.entries))}
	for _, key := range t.unknown {
		d.doc.Problems = append(d.doc.Problems, Problem{
			Entry: -1, Field: quoted(mask.Name(key)), Reason: "unknown field; want " + listKey,
		})
	}
	if n := len(t.entries); n > maxEntries {
		d.doc.Problems = append(d.doc.Problems, Problem{
			Entry: -1, Field: listKey, Reason: fmt.Sprintf("%d entries; the first %d are read", n, maxEntries),
		})
		t.entries = t.entries[:maxEntries]
	}
	entries := make([]remembered, len(t.entries))
	for i, e := range t.entries {
		if e.raw != nil && i < len(m.entries) && m.entries[i].raw == string(e.raw) {
			entries[i] = m.entries[i]
		} else {
			entries[i] = d.decode(i, e)
		}
		d.add(entries[i].service, entries[i].instances)
	}
	m.entries = entries
	return d.finish(), nil
}

// decoder collects a Document.
type decoder struct {
	doc      Document
	services map[string]*source.Service
}

// decode decodes an entry, and remembers it if nothing is wrong with it.
func (d *decoder) decode(index int, e entry) remembered {
	problems := len(d.doc.Problems)
	service, instances := d.entry(index, e)
	slices.SortStableFunc(instances, byID)
	r := remembered{service: service, instances: instances}
	if len(d.doc.Problems) == problems {
		r.raw = string(e.raw)
	}
	return r
}

// add files the instances of an entry, sorted by ID, under their service.
func (d *decoder) add(service string, instances []source.Instance) {
	s := d.services[service]
	if s == nil {
		// Clipped, so that more entries of the name go into a copy: this one is
		// remembered.
		d.services[service] = &source.Service{Name: service, CreateIndex: instances[0].CreateIndex, Instances: slices.Clip(instances)}
		return
	}
	s.Instances = append(s.Instances, instances...)
}

func (d *decoder) finish() Document {
	d.doc.Services = make([]source.Service, 0, len(d.services))
	for _, s := range d.services {
		s.Instances = sorted(s.Instances)
		d.doc.Services = append(d.doc.Services, *s)
	}
	slices.SortFunc(d.doc.Services, func(a, b source.Service) int { return cmp.Compare(a.Name, b.Name) })
	return d.doc
}

func byID(a, b source.Instance) int { return strings.Compare(a.ID, b.ID) }

// sorted returns instances sorted by ID, each with an ID of its own. It does
// not modify those given, of which equal IDs are in the document's order.
func sorted(instances []source.Instance) []source.Instance {
	for i := 1; i < len(instances); i++ {
		if instances[i-1].ID >= instances[i].ID {
			instances = slices.Clone(instances)
			unique(instances)
			slices.SortFunc(instances, byID)
			break
		}
	}
	return instances
}

// unique gives instances that repeat an ID one of their own: a backend may
// stand in several entries of one service.
func unique(instances []source.Instance) {
	seen := make(map[string]bool, len(instances))
	next := make(map[string]int)
	for i := range instances {
		id := instances[i].ID
		for seen[instances[i].ID] {
			next[id]++
			instances[i].ID = fmt.Sprintf("%s#%d", id, next[id]+1)
		}
		seen[instances[i].ID] = true
	}
}
