#!/bin/sh
# Puts a real server that the tests, the demo and the benchmarks talk to at bin/NAME.
#
#   sh scripts/server.sh consul|nomad
#
# Taken is, in this order: the one that $CONSUL or $NOMAD names, the one on PATH, the one
# built earlier, and else one is built from the module pinned in scripts/NAME. The built one
# is kept outside the clone, by version, so that the next clone finds it.
set -eu

name=$1
root=$(cd "$(dirname "$0")/.." && pwd)
case $name in
consul) given=${CONSUL:-} title=Consul minutes=5 cgo=0 ;;
nomad) given=${NOMAD:-} title=Nomad minutes=5 cgo=1 ;; # a package of its container runtime is C
*) echo "server.sh: no server is called $name; want consul or nomad" >&2 && exit 2 ;;
esac
link=$root/bin/$name

# place BINARY: link it to bin/NAME, unless it is there already (CONSUL=bin/consul).
place() {
	mkdir -p "$root/bin"
	[ "$1" -ef "$link" ] || ln -sfn "$1" "$link"
}

if [ -n "$given" ]; then
	found=$(command -v "$given") || {
		echo "$title: $given is not a program that can be run" >&2
		exit 1
	}
	case $found in /*) ;; *) found=$(pwd)/$found ;; esac
	place "$found"
	exit
fi
if found=$(command -v "$name"); then
	place "$found"
	exit
fi

module=$root/scripts/$name
version=$(awk -v m="github.com/hashicorp/$name" '$1 == m { print substr($2, 2) }' "$module/go.mod")
cache=${XDG_CACHE_HOME:-${HOME:-$root/bin}/.cache}/dill
kept=$cache/$name-$version

if [ ! -x "$kept" ]; then
	if [ $cgo = 1 ] && [ -z "$(sh "$root/scripts/race.sh" 2>/dev/null)" ]; then
		echo "$title cannot be built without a C compiler: the tests that talk to it are SKIPPED." >&2
		exit
	fi
	echo "$title $version is not on this machine: building it once, into $cache. This takes about $minutes minutes on two cores, and a few hundred MB of downloads the first time." >&2
	mkdir -p "$cache"
	new=$kept.$$
	trap 'rm -f "$new"' EXIT
	began=$(date +%s)
	(cd "$module" && CGO_ENABLED=$cgo GOWORK=off go build -trimpath -buildvcs=false -o "$new" "github.com/hashicorp/$name") || {
		echo "$title $version could not be built. Name one that you have: $(echo "$name" | tr a-z A-Z)=/path/to/$name" >&2
		exit 1
	}
	mv -f "$new" "$kept" # a rename: whoever builds at the same time never sees half a file
	echo "$title $version built in $(($(date +%s) - began)) s." >&2
fi
place "$kept"
