#!/bin/sh
# Runs promtool with the arguments given: the one on PATH, else Debian's, unpacked into .cache of the checkout.
#
#     deploy/prometheus/promtool.sh check rules rules/shanty.yml
#     curl -s localhost:8080/metrics | deploy/prometheus/promtool.sh check metrics
#
# Unpacking needs no root: apt-get verifies the package against the lists `apt-get update` has fetched.
set -eu

here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
unpacked=${SHANTY_CACHE:-$here/../../.cache}/prometheus

if found=$(command -v promtool); then
    exec "$found" "$@"
fi
if [ ! -x "$unpacked/usr/bin/promtool" ]; then
    if ! command -v apt-get >/dev/null; then
        echo "promtool is not on PATH, and there is no apt-get to fetch it with: install Prometheus" >&2
        exit 1
    fi
    cache=$(dirname -- "$unpacked")
    mkdir -p "$cache"
    echo '*' >"$cache/.gitignore"
    fetched=$(mktemp -d "$unpacked.XXXXXX")
    trap 'rm -rf "$fetched"' EXIT
    echo "fetching promtool from Debian's package prometheus" >&2
    (cd "$fetched" && apt-get download -q prometheus >&2) || {
        echo "the package cannot be fetched: is this machine online, and has apt-get update been run?" >&2
        exit 1
    }
    mkdir "$fetched/files"
    dpkg-deb --fsys-tarfile "$fetched"/prometheus_*.deb | tar -x -C "$fetched/files" ./usr/bin/promtool
    # Whoever is first wins; the other one's copy goes away with its temporary folder.
    mv -T "$fetched/files" "$unpacked" 2>/dev/null || test -x "$unpacked/usr/bin/promtool"
    rm -rf "$fetched"
    trap - EXIT
fi
exec "$unpacked/usr/bin/promtool" "$@"
