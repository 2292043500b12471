#!/usr/bin/env bash
# Prints a folder with libfabric.so.1 for tests, and what it needs, in the cache outside the tree: taken from Debian's packages as apt
# knows them, and not installed. Nothing, with why on stderr, where that can't be.
set -euo pipefail
cache=${XDG_CACHE_HOME:-$HOME/.cache}/maniple
packages="libfabric1 libfabric-dev ibverbs-providers libibverbs1 libpsm-infinipath1 libpsm2-2 librdmacm1 libnl-3-200 libnl-route-3-200 libnuma1 libatomic1"
command -v apt-get >/dev/null && command -v dpkg >/dev/null || { echo "libfabric.sh: no apt-get here to take libfabric from" >&2; exit 69; }
dir=$cache/libfabric-$(dpkg --print-architecture)
mkdir -p "$cache"
exec 9>"$dir.lock"
flock 9
if [ ! -e "$dir/.complete" ]; then
  rm -rf "$dir"
  mkdir -p "$dir/packages"
  # shellcheck disable=SC2086
  (cd "$dir/packages" && { apt-get download -qq $packages || { apt-get update -qq && apt-get download -qq $packages; }; } >"$dir.log" 2>&1) ||
    { echo "libfabric.sh: Debian's packages can't be had: $(tail -n 1 "$dir.log")" >&2; exit 69; }
  for package in "$dir"/packages/*.deb; do dpkg -x "$package" "$dir"; done
  rm -r "$dir/packages"
  lib=$(dirname "$(find "$dir" -name libfabric.so.1 | head -n 1)")
  find "$dir/lib" -name '*.so.*' -exec ln -sf {} "$lib/" \;
  find "$dir" -name 'libpsm_infinipath.so.1.*' -exec ln -sf {} "$lib/libpsm_infinipath.so.1" \; # as its installation would
  touch "$dir/.complete"
fi
dirname "$(find "$dir" -name libfabric.so.1 | head -n 1)"
