package routing

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"dill/controlplane/mask"
	"dill/controlplane/source"
)

const (
	nameField     = "name"
	listenerField = "listener"
	backendsField = "backends"
	addressField  = "address"
	allowField    = "allow"
	proxyField    = "proxy"

	dillTag     = "dill"
	tagPrefix   = dillTag + "."
	listenerTag = tagPrefix + listenerField
)

// options are the fields that are tags of the same name.
var options = []string{
	allowField, "connect_timeout", "drain", "idle_timeout", "max_connections",
	proxyField, "proxy_protocol", "strategy", "weight",
}

const (
	wantName     = "want a name"
	wantListener = `want "label:port" or a list of them`
	wantBackends = `want a list of "host:port"`
)

// item is an entry that is being decoded.
type item struct {
	*decoder
	line, index int
	name        string
	faults      []source.Fault // of all its instances
	instances   []source.Instance
}

// option is what an entry or a backend says about one field that is a tag.
type option struct {
	tag   string // "" = none
	fault source.Fault
}

// problem records a mistake in a field ("" = the entry), and returns it as a
// fault of the instances it is about and of their tag, "" = of all they are.
func (it *item) problem(tag, field, format string, args ...any) source.Fault {
	p := Problem{Line: it.line, Entry: it.index, Service: it.name, Field: field, Reason: fmt.Sprintf(format, args...)}
	it.doc.Problems = append(it.doc.Problems, p)
	return source.Fault{Tag: tag, Reason: p.where() + p.Reason}
}

// refuse leaves an instance in place of an entry that f costs as a whole, for
// compile to show as refused. It claims no port: that would keep others off it.
func (it *item) refuse(f source.Fault) {
	id := fmt.Sprintf("%s[%d]", listKey, it.index)
	if it.name == "" {
		it.name, id = id, ""
	}
	it.instances = []source.Instance{{ID: id, Tags: []string{dillTag}, Faults: []source.Fault{f}, CreateIndex: uint64(it.index) + 1}}
}

// entry returns the service that an entry is for and its instances, at least
// one, in the entry's order.
func (d *decoder) entry(index int, e entry) (service string, instances []source.Instance) {
	it := item{decoder: d, line: e.line, index: index}
	it.decode(e.table())
	return it.name, it.instances
}

func (it *item) decode(fields map[string]any, err error) {
	if err != nil {
		it.refuse(it.problem("", "", "%v", err))
		return
	}
	name, ok := text(fields[nameField])
	if !ok || strings.TrimSpace(name) == "" {
		it.refuse(it.problem("", nameField, "%s; %s", missing(fields, nameField), wantName))
		return
	}
	it.name = name
	base := append([]string{dillTag}, it.listeners(fields)...)
	opts := it.options("", fields, []string{nameField, listenerField, backendsField})

	backends := listOf(fields[backendsField])
	if len(backends) == 0 {
		it.refuse(it.problem("", backendsField, "%s; %s", missing(fields, backendsField), wantBackends))
		return
	}
	it.faults = slices.Clip(it.faults)
	it.instances = make([]source.Instance, 0, len(backends))
	for i, b := range backends {
		it.backend(i, b, slices.Clip(base), opts)
	}
}

// listeners returns the claims of an entry that can be written as tags.
func (it *item) listeners(fields map[string]any) []string {
	list := listOf(fields[listenerField])
	if len(list) == 0 {
		it.faults = append(it.faults, it.problem(listenerTag, listenerField, "%s; %s", missing(fields, listenerField), wantListener))
	}
	var tags []string
	for _, l := range list {
		if claim, ok := text(l); ok {
			tags = append(tags, listenerTag+"="+claim)
		} else {
			it.faults = append(it.faults, it.problem(listenerTag, listenerField, "%s; %s", kindOf(l), wantListener))
		}
	}
	return tags
}

// options returns the options among fields by their field's name. where is ""
// for the entry or names the backend; known are the fields that are no options.
func (it *item) options(where string, fields map[string]any, known []string) map[string]option {
	opts := make(map[string]option)
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		if slices.Contains(known, key) {
			continue
		}
		field, tag := key, tagPrefix+key
		if where != "" {
			field = where + "." + key
		}
		if !slices.Contains(options, key) {
			opts[key] = option{fault: it.problem(tagPrefix+mask.Name(mask.Address(key)), quoted(mask.Name(field)), "unknown field; want %s or an option: %s", strings.Join(known, ", "), strings.Join(options, ", "))}
			continue
		}
		value, err := optionText(key, fields[key])
		o := option{tag: tag + "=" + value}
		switch {
		case err != nil:
			o.fault = it.problem(tag, field, "%v", err)
		case key == proxyField && value == "":
			o.tag = "" // the original's way to say none
		}
		opts[key] = o
	}
	return opts
}

// optionText returns the value of an option as a tag has it, and "" with an
// error if no tag could: where that matters, compile refuses an empty value.
func optionText(key string, v any) (string, error) {
	if list, ok := v.([]any); ok && key == allowField {
		var parts []string
		for _, e := range list {
			part, ok := text(e)
			if !ok {
				return "", fmt.Errorf("%s in the list; want networks", kindOf(e))
			}
			parts = append(parts, part)
		}
		return strings.Join(parts, ","), nil
	}
	value, ok := text(v)
	if !ok && v != nil {
		return "", fmt.Errorf("%s; want a string or a number", kindOf(v))
	}
	return value, nil
}

// backend adds the instance of one element of backends.
func (it *item) backend(i int, v any, base []string, opts map[string]option) {
	field := fmt.Sprintf("%s[%d]", backendsField, i)
	faults := it.faults
	var twice error
	if table, ok := v.(map[string]any); ok {
		table, twice = lowerKeys(table)
		own := it.options(field, table, []string{addressField})
		opts = maps.Clone(opts)
		maps.Copy(opts, own)
		v = table[addressField]
		field += "." + addressField
	}
	addr, ok := text(v)
	host, port, err := splitAddress(addr)
	switch {
	case twice != nil:
		faults = append(faults, it.problem("", field, "%v", twice))
	case !ok && v == nil:
		faults = append(faults, it.problem("", field, `missing; want "host:port"`))
	case !ok:
		faults = append(faults, it.problem("", field, `%s; want "host:port"`, kindOf(v)))
	case err != nil:
		faults = append(faults, it.problem("", field, `%s %v; want "host:port"`, quoted(addr), err))
	}
	tags := base // one list for all backends without options
	for _, key := range slices.Sorted(maps.Keys(opts)) {
		o := opts[key]
		if o.tag != "" {
			tags = append(tags, o.tag)
		}
		if o.fault.Reason != "" {
			faults = append(faults, o.fault)
		}
	}
	if addr == "" {
		addr = field
	}
	it.instances = append(it.instances, source.Instance{
		ID:          it.name + "/" + mask.Address(addr),
		Host:        host,
		Port:        port,
		Tags:        tags,
		Faults:      faults,
		CreateIndex: uint64(it.index) + 1,
	})
}

// splitAddress splits "host:port". With an error the host is the text itself
// and the port is none that anybody accepts.
func splitAddress(s string) (host string, port int, err error) {
	switch {
	case strings.Contains(s, "://"):
		return s, 0, errors.New("is a URL")
	case strings.Contains(s, ","):
		return s, 0, errors.New("is more than one address")
	}
	host, digits, err := net.SplitHostPort(s)
	if err != nil {
		return s, 0, errors.New(notSplit(err))
	}
	port, err = strconv.Atoi(digits)
	if err != nil || port < 1 || port > 65535 {
		return host, 0, fmt.Errorf("has the port %s, which is not within 1..65535", quoted(digits))
	}
	if host == "" {
		return "", port, errors.New("has no host")
	}
	return host, port, nil
}

// notSplit words what net.SplitHostPort complains about.
func notSplit(err error) string {
	at, ok := errors.AsType[*net.AddrError](err)
	if !ok {
		return "is no address"
	}
	switch at.Err {
	case "missing port in address":
		return "has no port"
	case "too many colons in address":
		return "has too many colons (an IPv6 address stands in brackets)"
	}
	return "has a " + at.Err
}
