package routing

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"dill/controlplane/source"
)

// MaxSize is the largest document that is read, in bytes. The longest useful
// one – an entry of some 200 bytes for each of 65,535 ports – is smaller.
const MaxSize = 16 << 20

// maxEntries bounds what a document of many tiny entries can cost.
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
func Decode(f Format, data []byte) (Document, error) {
	if len(data) > MaxSize {
		return Document{}, fmt.Errorf("%d bytes; want at most %d", len(data), MaxSize)
	}
	t, err := parse(f, data)
	if err != nil {
		return Document{}, err
	}
	if len(t.entries) > maxEntries {
		return Document{}, fmt.Errorf("%d %s; want at most %d", len(t.entries), listKey, maxEntries)
	}
	d := decoder{services: make(map[string]*source.Service)}
	for _, key := range t.unknown {
		d.doc.Problems = append(d.doc.Problems, Problem{
			Entry: -1, Field: quoted(key), Reason: "unknown field; want " + listKey,
		})
	}
	for i, e := range t.entries {
		d.entry(i, e)
	}
	return d.finish(), nil
}

// decoder collects a Document.
type decoder struct {
	doc      Document
	services map[string]*source.Service
}

// add files an instance under its service.
func (d *decoder) add(service string, in source.Instance) {
	s := d.services[service]
	if s == nil {
		s = &source.Service{Name: service, CreateIndex: in.CreateIndex}
		d.services[service] = s
	}
	s.Instances = append(s.Instances, in)
}

func (d *decoder) finish() Document {
	for _, s := range d.services {
		unique(s.Instances)
		slices.SortFunc(s.Instances, func(a, b source.Instance) int { return strings.Compare(a.ID, b.ID) })
		d.doc.Services = append(d.doc.Services, *s)
	}
	slices.SortFunc(d.doc.Services, func(a, b source.Service) int { return cmp.Compare(a.Name, b.Name) })
	return d.doc
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
