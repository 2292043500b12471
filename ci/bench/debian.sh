#!/usr/bin/env bash
# debian.sh PROGRAM: prints a program that runs PROGRAM of Debian's package of that name: the one that is installed, else one from the cache outside the tree,
# taken with what it needs from the packages that apt knows, and not installed. Nothing, with why on stderr, where that can't be.
set -euo pipefail
program=$1
if command -v "$program"; then exit; fi
cache=${XDG_CACHE_HOME:-$HOME/.cache}/maniple
command -v apt-get >/dev/null && command -v dpkg >/dev/null || { echo "debian.sh: no apt-get here to take $program from" >&2; exit 69; }
dir=$cache/$program-$(dpkg --print-architecture)
mkdir -p "$cache"
exec 9>"$dir.lock"
flock 9
missing() { apt-get -s -q --no-install-recommends install "$program" | sed -n 's/^Inst \([^ ]*\).*/\1/p'; }
if ! "$dir/run" --version >/dev/null 2>&1; then # not there, or what it needs is installed no longer
  rm -rf "$dir"
  mkdir -p "$dir/packages"
  { packages=$(missing) || { apt-get update -qq && packages=$(missing); }; } >"$dir.log" 2>&1 || { echo "debian.sh: $program can't be had: $(tail -n 1 "$dir.log")" >&2; exit 69; }
  # shellcheck disable=SC2086
  (cd "$dir/packages" && { apt-get download -qq $packages || { apt-get update -qq && apt-get download -qq $packages; }; } >"$dir.log" 2>&1) ||
    { echo "debian.sh: Debian's packages can't be had: $(tail -n 1 "$dir.log")" >&2; exit 69; }
  for package in "$dir"/packages/*.deb; do dpkg -x "$package" "$dir"; done
  rm -r "$dir/packages"
  libraries=$(find "$dir" -name '*.so.*' -printf '%h\n' | sort -u | paste -sd:)
  printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' "$libraries" "$(find "$dir" -path "*/bin/$program")" >"$dir/run"
  chmod 755 "$dir/run"
  "$dir/run" --version >"$dir.log" 2>&1 || { echo "debian.sh: $program does not run: $(tail -n 1 "$dir.log")" >&2; exit 69; }
fi
echo "$dir/run"
