// Package compile turns what the sources report into the listeners that are to
// be served, and into the reasons why the rest is not. It is pure: the same
// input gives the same result in whatever order it comes, nothing is looked
// up or waited for. What a Memo remembers saves work and changes no result.
//
// # Tags
//
// An instance takes part if it has the tag "dill". Everything else is a
// dill.<key>=<value> tag, the key in lower case:
//
//	dill.listener=<label>:<port>   a port to serve; any number of these.
//	                               Labels compare case-insensitively.
//
//	                               for the instance itself:
//	dill.weight=<1..65535>         default: the source's weight, else 1; an
//	                               instance that the source gives no share
//	                               in its state is not served without it
//	dill.connect_timeout=<1ms..5m>
//	dill.proxy_protocol=v1|v2      sent to the instance            (closed)
//	dill.proxy=socks5://[user:password@]host[:port]                (closed)
//	                               port 1080 if none is given; a host name of
//	                               the instance is the proxy's to look up
//
//	                               for the listener:
//	dill.strategy=round_robin|least_conn|random|source_hash
//	dill.max_connections=<0..>     0 = no limit of its own
//	dill.idle_timeout=<1ms..720h>  or off
//	dill.drain=<1ms..24h>          or off: sessions of an instance that left
//	                               run on, as they do by default
//	dill.allow=<cidr>[,<cidr>…]    clients that are admitted       (closed)
//
// # Mistakes
//
// A bad dill.listener costs that claim alone. A bad value of an option marked
// closed costs the instance: whoever asked for protection must not be served
// without it. Any other bad option falls to its default. A tag that is given
// twice with different values is bad. Unknown dill.* tags do nothing, and neither
// does a tag that is one of dill's but for blanks, capital letters or a comma
// that joins it to another: it is named as that, and where it was meant for an
// option, it is a bad value of that. One that names a closed option, wherever in
// it, costs the instance. An instance with the tag "dill" that asks for
// no port is named, too. What a source could not read (source.Fault) counts like
// a mistake in the tag it is about. All of it is reported as a Refusal, in text that is safe to print: escaped, one line,
// shortened, and without any part of a proxy's credentials.
//
// # Instances that disagree
//
// Every rolling change of a service's tags passes through this. An instance
// stands behind exactly the listeners it claims. Options of the listener come
// from the instance with the highest CreateIndex among those that claim it;
// dill.allow is the intersection of all of them, critical ones included.
//
// # Ownership
//
// A port belongs to one service. The incumbent keeps it while any registered
// instance of it claims it; without one, source order file, consul, nomad,
// http, then the lowest CreateIndex, then the name decides. Addresses that
// overlap are one port for this: 0.0.0.0 overlaps every IPv4 address, [::]
// every IPv6 address (listeners on it are IPv6 only). A service that claims
// both 0.0.0.0 and 127.0.0.1 has the former.
//
// # Backends on this host
//
// A claim takes nothing from anybody before dill has bound it. Where a backend
// of another service is registered, healthy or not, that would catch its
// connections or its port, the claim is refused. So it is where such a backend is
// registered at another address of this host and the claim's own is found in use
// (Input.InUse): a program that is bound to all addresses is registered at one.
// Where each is bound to its own, both are served. Where dill has bound the
// address first it is the backend that is refused: connections to it would
// reach dill itself. A service whose own backend stands at its own claim is
// served without that backend there. The port at which a source is asked on this
// host (Options.Upstreams) is refused to all but a routing file.
//
// # Limits
//
// Beyond Options.MaxPerService and MaxListeners the lowest ports are served and
// the rest is refused; what is bound stays. A claim beyond its service's limit
// does not contend for its port. Other limits cost what is beyond them, too: see
// maxFaults, maxAllow and route.MaxBackends.
package compile
