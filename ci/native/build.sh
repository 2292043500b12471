#!/usr/bin/env bash
# Builds maniple-native, which needs cgo, so that it runs with glibc 2.17 and all that came after it.
#   build.sh FILE    GOARCH says for what machine
# The compiler is zig's, from PyPI (ci/python/native.txt; 100 MB, once). Prints nothing if FILE is there, else, on stderr,
# why not: then there is no FILE, and maniple does without.
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
out=${1:?usage: build.sh FILE}
without() { rm -f "$out"; echo "maniple: without maniple-native: $1" >&2; exit 0; }

case $(go env GOARCH) in
amd64) machine=x86_64 ;;
arm64) machine=aarch64 ;;
*) without "there is none for $(go env GOARCH)" ;;
esac
python=$("$top/ci/python/env.sh" native) || without "its compiler (ziglang from PyPI) can't be had"
mkdir -p "$(dirname "$out")"
out=$(cd "$(dirname "$out")" && pwd)/$(basename "$out")
cd "$top"
# -s -w: without symbols; netgo: no resolver of the C library, which it has no use for.
CGO_ENABLED=1 GOOS=linux CC=$top/ci/native/cc.sh MANIPLE_ZIG_PYTHON=$python MANIPLE_ZIG_MACHINE=$machine \
  ZIG_GLOBAL_CACHE_DIR=${XDG_CACHE_HOME:-$HOME/.cache}/maniple/zig \
  go build -trimpath -tags netgo,osusergo -ldflags "-s -w" -o "$out" ./launcher/cmd/maniple-native || without "it could not be compiled"
