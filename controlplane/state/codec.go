package state

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"dill/controlplane/source"
)

// version is the layout of the body that is written. Those from oldest on are
// read: each had less than the next, and what it lacks is not known. A later one
// is set aside like a damaged file, for guessing routes is worse than waiting
// for the sources.
//
//	1  services and owners
//	2  scopes, ages of stale services, lingering listeners, what is kept
const (
	version = 2
	oldest  = 1
)

const magic = "dill-state"

// The body has types of its own, so that a renamed field elsewhere cannot
// silently change the file.
type (
	body struct {
		Saved     time.Time                   `json:"saved"`
		Sources   []bodySource                `json:"sources"`
		Owners    map[netip.AddrPort]string   `json:"owners"`
		Lingering map[netip.AddrPort][]string `json:"lingering,omitempty"`
	}
	bodySource struct {
		Name     string               `json:"name"`
		Scope    string               `json:"scope,omitempty"`
		Since    time.Time            `json:"since"`
		Services []bodyService        `json:"services"`
		Stale    map[string]time.Time `json:"stale,omitempty"`
	}
	bodyService struct {
		Name        string         `json:"name"`
		CreateIndex uint64         `json:"create_index,omitempty"`
		Instances   []bodyInstance `json:"instances"`
	}
	bodyInstance struct {
		ID          string   `json:"id"`
		Host        string   `json:"host"`
		Port        int      `json:"port"`
		Tags        []string `json:"tags"`
		Health      string   `json:"health"`
		Weight      int      `json:"weight,omitempty"`
		CreateIndex uint64   `json:"create_index,omitempty"`
		Kept        bool     `json:"kept,omitempty"`
	}
)

// encode returns the file's content for s.
func encode(s State) ([]byte, error) {
	b := body{Saved: s.Saved.UTC(), Owners: s.Owners, Lingering: s.Lingering}
	for _, src := range s.Sources {
		bs := bodySource{Name: src.Name, Scope: src.Scope, Since: src.Since.UTC(), Stale: src.Stale}
		for _, svc := range src.Services {
			bsvc := bodyService{Name: svc.Name, CreateIndex: svc.CreateIndex}
			for _, in := range svc.Instances {
				bsvc.Instances = append(bsvc.Instances, bodyInstance{
					ID: in.ID, Host: in.Host, Port: in.Port, Tags: in.Tags,
					Health: in.Health.String(), Weight: in.Weight, CreateIndex: in.CreateIndex, Kept: in.Kept,
				})
			}
			bs.Services = append(bs.Services, bsvc)
		}
		b.Sources = append(b.Sources, bs)
	}
	text, err := json.Marshal(b)
	if err != nil {
		return nil, err
	}
	return withHeader(append(text, '\n')), nil
}

// withHeader puts the header line before a body.
func withHeader(text []byte) []byte {
	head := fmt.Sprintf("%s %d %x %d\n", magic, version, sha256.Sum256(text), len(text))
	return append([]byte(head), text...)
}

// decode is encode's inverse. It trusts nothing: what it returns is sorted and
// unique as package source demands, whoever wrote the file.
func decode(data []byte) (State, error) {
	head, text, ok := bytes.Cut(data, []byte("\n"))
	if !ok || len(head) > 200 {
		return State{}, damaged("no header line")
	}
	field := strings.Fields(string(head))
	if len(field) != 4 || field[0] != magic {
		return State{}, damaged("not a dill state file")
	}
	if v, err := strconv.Atoi(field[1]); err != nil || v < oldest || v > version {
		return State{}, fmt.Errorf("version %.20q, this dill reads versions %d to %d", field[1], oldest, version)
	}
	if field[3] != fmt.Sprint(len(text)) {
		return State{}, damaged("body has %d bytes, header says %.20q", len(text), field[3])
	}
	if field[2] != fmt.Sprintf("%x", sha256.Sum256(text)) {
		return State{}, damaged("checksum does not match")
	}
	var b body
	if err := json.Unmarshal(text, &b); err != nil {
		return State{}, damaged("body: %w", err)
	}
	s := State{Saved: b.Saved, Owners: b.Owners, Lingering: b.Lingering}
	for _, bs := range b.Sources {
		src := Source{Name: bs.Name, Scope: bs.Scope, Since: bs.Since, Stale: bs.Stale}
		for _, bsvc := range bs.Services {
			svc, err := bsvc.service()
			if err != nil {
				return State{}, damaged("source %q: service %q: %w", bs.Name, bsvc.Name, err)
			}
			src.Services = append(src.Services, svc)
		}
		slices.SortStableFunc(src.Services, func(a, b source.Service) int { return cmp.Compare(a.Name, b.Name) })
		src.Services = slices.CompactFunc(src.Services, func(a, b source.Service) bool { return a.Name == b.Name })
		s.Sources = append(s.Sources, src)
	}
	slices.SortStableFunc(s.Sources, func(a, b Source) int { return cmp.Compare(a.Name, b.Name) })
	s.Sources = slices.CompactFunc(s.Sources, func(a, b Source) bool { return a.Name == b.Name })
	return s, nil
}

// damaged is the error of a file that is not as it was written.
func damaged(format string, args ...any) error {
	return fmt.Errorf("damaged: "+format, args...)
}

func (b bodyService) service() (source.Service, error) {
	svc := source.Service{Name: b.Name, CreateIndex: b.CreateIndex}
	for _, bi := range b.Instances {
		health, ok := healths[bi.Health]
		if !ok {
			return svc, fmt.Errorf("instance %q: unknown health %q", bi.ID, bi.Health)
		}
		svc.Instances = append(svc.Instances, source.Instance{
			ID: bi.ID, Host: bi.Host, Port: bi.Port, Tags: bi.Tags,
			Health: health, Weight: bi.Weight, CreateIndex: bi.CreateIndex, Kept: bi.Kept,
		})
	}
	slices.SortStableFunc(svc.Instances, func(a, b source.Instance) int { return cmp.Compare(a.ID, b.ID) })
	svc.Instances = slices.CompactFunc(svc.Instances, func(a, b source.Instance) bool { return a.ID == b.ID })
	return svc, nil
}

var healths = map[string]source.Health{
	source.Passing.String():     source.Passing,
	source.Warning.String():     source.Warning,
	source.Critical.String():    source.Critical,
	source.Maintenance.String(): source.Maintenance,
}
