#!/usr/bin/env bash
# Builds the C extension of the Python package: libs/python/maniple/_core/_fast.abi3.so, which serves Python 3.9 and later.
#   fast.sh PYTHON    whose headers it takes
# It is made once for each state of its sources and copied from a cache. Prints nothing if it is there, else, on
# stderr, why not: then the package is Python alone.
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
core=$top/libs/python/maniple/_core
made=$core/_fast.abi3.so
cc=${CC:-cc}
flags="-std=c11 -O2 -Wall -Wextra -Werror -fvisibility=hidden -fPIC -shared -pthread -Wl,-z,now -DPy_LIMITED_API=0x03090000"
without() { rm -f "$made"; echo "maniple: without the C extension: $1" >&2; exit 0; }

command -v "$cc" >/dev/null || without "there is no C compiler ($cc)"
include=$("$1" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
[ -f "$include/Python.h" ] || without "there is no Python.h in $include (python3-dev)"
cache=${XDG_CACHE_HOME:-$HOME/.cache}/maniple
key=$( { echo "$flags" "$include"; "$cc" --version; cat "$core"/_fast*.[ch] "$top/transport/wire/frames.h"; } | sha256sum | cut -c1-12)
kept=$cache/fast-$key.abi3.so
if [ ! -e "$kept" ]; then
  mkdir -p "$cache"
  # shellcheck disable=SC2086 # flags are many
  "$cc" $flags -I"$include" -I"$top/transport/wire" "$core"/_fast*.c -o "$kept.$$" -s || without "it could not be compiled"
  mv "$kept.$$" "$kept"
fi
cmp -s "$kept" "$made" || { cp "$kept" "$made.$$" && mv "$made.$$" "$made"; }
