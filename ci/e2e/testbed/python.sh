#!/usr/bin/env bash
# Prints a Python with torch that every user of this machine may run (root's cache is closed to others),
# making it first if needed: from the packages of the demo's environment where that is of the same Python
# version (links, seconds), else by installing them (minutes).
#   python.sh [NAME]         with the packages of ci/python/NAME.txt instead of demo.txt
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
: "${ROOT:=/var/tmp/maniple-e2e}"
base=${MANIPLE_E2E_PYTHON:-/usr/bin/python3}
name=${1:-demo}
list=$here/../../python/$name.txt
version=$("$base" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
env=$ROOT/python-$([ "$name" = demo ] || echo "$name-")$version-$(sha256sum "$list" | cut -c1-8)
mkdir -p "$ROOT"; chmod 755 "$ROOT"
exec 9>"$ROOT/.python"; flock 9
if [ ! -e "$env/.complete" ]; then
  rm -rf "$env"
  "$base" -m venv --without-pip "$env" >&2
  ours=
  [ "$name" = demo ] && for e in "${XDG_CACHE_HOME:-$HOME/.cache}"/maniple/python-demo-*; do
    [ -e "$e/.complete" ] && [ -d "$e/lib/python$version/site-packages" ] && ours=$e
  done
  if [ -n "$ours" ] && cp -al "$ours/lib/python$version/site-packages/." "$env/lib/python$version/site-packages/" 2>/dev/null; then
    for script in torchrun accelerate; do
      sed "1s,.*,#!$env/bin/python," "$ours/bin/$script" > "$env/bin/$script"; chmod 755 "$env/bin/$script"
    done
  else
    rm -rf "$env"; "$base" -m venv "$env" >&2
    "$env/bin/python" -m pip install --quiet --disable-pip-version-check -r "$list" >&2
  fi
  touch "$env/.complete"
fi
echo "$env/bin/python"
