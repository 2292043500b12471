#!/usr/bin/env bash
# Prints a program that runs iperf3, from the cache outside the tree: taken from Debian's packages as apt knows them, and not installed. Nothing, with why
# on stderr, where that can't be.
set -euo pipefail
cache=${XDG_CACHE_HOME:-$HOME/.cache}/maniple
command -v apt-get >/dev/null && command -v dpkg >/dev/null || { echo "iperf3.sh: no apt-get here to take iperf3 from" >&2; exit 69; }
dir=$cache/iperf3-$(dpkg --print-architecture)
mkdir -p "$cache"
exec 9>"$dir.lock"
flock 9
if [ ! -e "$dir/.complete" ]; then
  rm -rf "$dir"
  mkdir -p "$dir/packages"
  packages="iperf3 libiperf0 libsctp1"
  # shellcheck disable=SC2086
  (cd "$dir/packages" && { apt-get download -qq $packages || { apt-get update -qq && apt-get download -qq $packages; }; } >"$dir.log" 2>&1) ||
    { echo "iperf3.sh: Debian's packages can't be had: $(tail -n 1 "$dir.log")" >&2; exit 69; }
  for package in "$dir"/packages/*.deb; do dpkg -x "$package" "$dir"; done
  rm -r "$dir/packages"
  lib=$(dirname "$(find "$dir" -name 'libiperf.so.0' | head -n 1)")
  printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s/usr/bin/iperf3 "$@"\n' "$lib" "$dir" >"$dir/run"
  chmod 755 "$dir/run"
  touch "$dir/.complete"
fi
echo "$dir/run"
