#!/bin/sh
# Runs every fuzz target of the repository, one after the other, each for $1 (default 60s).
set -eu
time=${1:-60s}
for pkg in $(go list ./...); do
	for target in $(go test -run='^$' -list='^Fuzz' "$pkg" | grep '^Fuzz' || true); do
		echo "== $pkg $target, $time"
		go test -run='^$' -fuzz="^$target\$" -fuzztime="$time" "$pkg"
	done
done
