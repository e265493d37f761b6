// Package routing decodes a routing document, the schema that the file source
// and the HTTP source share, into what every source reports: services whose
// instances carry dill tags. It does no I/O.
//
// A document is TOML, YAML or JSON with one list:
//
//	[[services]]
//	  name     = "web"
//	  listener = "local:1234"                          # or a list
//	  backends = ["127.0.0.1:5050", "db.internal:5051"]
//	  proxy    = "socks5://user:password@127.0.0.1:1080"
//	  strategy = "least_conn"
//	  allow    = ["10.0.0.0/8", "192.168.1.7/32"]      # or "10.0.0.0/8,192.168.1.7/32"
//
//	[[services]]
//	  name     = "db"
//	  listener = ["local:5432", "any:5433"]
//	  backends = [
//	    "10.0.0.7:5432",
//	    { address = "10.0.0.8:5432", weight = 3, connect_timeout = "2s" },
//	  ]
//
// name, listener and backends are required; names of fields count in any case.
// Every other field is the tag
// dill.<field> of the same name, and takes what the tag takes: strategy, weight,
// connect_timeout, idle_timeout, max_connections, allow, proxy, proxy_protocol and
// drain. weight, proxy, proxy_protocol and connect_timeout may also stand in a
// backend, where they win over the entry's. An empty proxy is none. A backend that an entry lists
// twice has twice the share. Entries of the same name are one service.
//
// # What is refused, and how
//
// A document that does not parse, or that has no list of services, is an error
// and nothing else: an empty file is what a program leaves that is about to
// write one, so "no services" has to be said, as services = [].
//
// An entry's mistake costs that entry or that backend alone. The values
// themselves – labels, ports, options – are judged in one place for all sources,
// package compile, so they are passed on as they were written. A mistake that
// this package can see itself is a source.Fault of the instances it is about,
// with the line and the field: compile refuses them where everybody sees it, in
// these words. An entry without a name or without backends is one such instance,
// which claims no port. All mistakes are the document's Problems as well; only
// those that are no entry's are logged here.
//
// Secrets: a Problem and an error never quote the value of a proxy field, nor
// that of a field they do not know.
package routing
